defmodule EventSeal.Page do
  @moduledoc """
  A page to look at: what a store or one flow holds, and whether it is as it was sealed, as one HTML file. It needs no
  network and no script, and is made for paper, a screen and a phone alike.

  `store/2` and `flow/3` read and verify; `to_iodata/1` makes the page of what they return. Bodies are in a page only if
  they were asked for. Every text that comes from the store is escaped.
  """

  alias EventSeal.{Error, Store}
  alias EventSeal.Page.{Html, Summary, Survey, Timeline}

  @css Path.join(__DIR__, "page/page.css")
  @external_resource @css
  @style File.read!(@css)
  # The page names its one style by its digest, so that a browser takes no other, loads nothing and runs nothing.
  @policy "default-src 'none'; style-src 'sha256-#{Base.encode64(:crypto.hash(:sha256, @style))}'; base-uri 'none'; form-action 'none'"

  @opaque t :: {:store | :flow, map}

  @doc """
  Verifies a store and gathers what its page shows. Options: `:title` (what the store is called there), `:audit` (what
  `EventSeal.Auditor.noted/1` returned), and those of `EventSeal.Verifier.run/2`.
  """
  @spec store(Store.t(), keyword) :: {:ok, t} | {:error, Error.t()}
  def store(store, opts) do
    {named, opts} = Keyword.split(opts, [:title, :audit])
    with {:ok, found} <- Survey.store(store, opts), do: {:ok, {:store, named(found, named)}}
  end

  @doc "The same of one flow; with `bodies: true` the page shows them."
  @spec flow(Store.t(), String.t(), keyword) :: {:ok, t} | {:error, Error.t()}
  def flow(store, flow, opts) do
    {named, opts} = Keyword.split(opts, [:title, :audit])
    with {:ok, found} <- Survey.flow(store, flow, opts), do: {:ok, {:flow, named(found, named)}}
  end

  defp named(found, named), do: Map.merge(found, %{title: named[:title] || "a store", audit: named[:audit]})

  @doc "Whether nothing was found: no fault, no damage, and a log that is what its checkpoint says."
  @spec ok?(t) :: boolean
  def ok?({_kind, found}), do: found.ok

  @doc "The page."
  @spec to_iodata(t) :: iolist
  def to_iodata({:store, found}), do: document(found, "Store " <> found.title, Summary.of(found))
  def to_iodata({:flow, found}), do: document(found, "Flow " <> found.flow, Timeline.of(found))

  defp document(found, title, content) do
    head =
      Html.el(:head, [
        Html.el(:meta, [charset: "utf-8"], nil),
        Html.el(:meta, [http_equiv: "Content-Security-Policy", content: @policy], nil),
        Html.el(:meta, [name: "viewport", content: "width=device-width, initial-scale=1"], nil),
        Html.el(:meta, [name: "color-scheme", content: "light dark"], nil),
        Html.el(:meta, [name: "referrer", content: "no-referrer"], nil),
        Html.el(:title, [Html.plain(title), if(found.ok, do: " · no fault", else: " · FAULTS")]),
        Html.el(:style, Html.raw(@style))
      ])

    ["<!doctype html>\n" | Html.to_iodata(Html.el(:html, [lang: "en"], [head, body(found, content)]))]
  end

  defp body(found, content) do
    Html.el(:body, [
      Html.el(:main, content),
      Html.el(:footer, [
        Html.el(:p, [
          "Made by EventSeal from ",
          Html.theirs(found.title),
          ". All times are UTC."
        ]),
        Html.el(
          :p,
          "This page says what a verification found at that time. It proves nothing by itself: whoever doubts it verifies the store again, or asks for the proof of an event, which can be checked without the store."
        )
      ])
    ])
  end
end
