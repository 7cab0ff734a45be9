defmodule EventSeal.Page.Html do
  @moduledoc false
  # Markup as iodata. Whatever is not made by `el/3` or `raw/1` is text, and is escaped; what a reader could not see, or
  # what would turn the text around it, is shown by its number.

  @type t :: {:safe, iodata}
  @type child :: t | String.t() | integer | nil | [child]

  @void [:meta]
  @unseen [0x00..0x1F, 0x7F..0x9F, 0xAD..0xAD, 0x61C..0x61C, 0x180E..0x180E, 0x200B..0x200F, 0x2028..0x202E] ++
            [0x2060..0x206F, 0xFEFF..0xFEFF, 0xFFF9..0xFFFB, 0xE0000..0xE007F]

  @spec el(atom, keyword, child) :: t
  def el(name, attributes \\ [], children) do
    tag = Atom.to_string(name)
    open = [?<, tag, Enum.map(attributes, &attribute/1), ?>]
    {:safe, if(name in @void, do: open, else: [open, child(children), "</", tag, ?>])}
  end

  @doc "What is markup already, and the library's own."
  @spec raw(iodata) :: t
  def raw(iodata), do: {:safe, iodata}

  @doc "A text of someone else's: it runs in its own direction and turns nothing around it."
  @spec theirs(String.t()) :: t
  def theirs(text), do: el(:bdi, text)

  @doc "A text without marks in it, as a title is."
  @spec plain(String.t()) :: t
  def plain(text), do: {:safe, escape(text, &bare/1)}

  @spec to_iodata(child) :: iodata
  def to_iodata(children), do: child(children)

  defp attribute({_name, nil}), do: []

  defp attribute({name, value}),
    do: [?\s, name |> Atom.to_string() |> String.replace("_", "-"), ~s(="), escape(to_string(value), &bare/1), ?"]

  defp child({:safe, iodata}), do: iodata
  defp child(nil), do: []
  defp child(number) when is_integer(number), do: Integer.to_string(number)
  defp child(text) when is_binary(text), do: escape(text, &marked/1)
  defp child(children) when is_list(children), do: Enum.map(children, &child/1)

  defp bare(code), do: ["⟨", code, "⟩"]
  defp marked(code), do: [~s(<span class="unseen">), code, "</span>"]

  defp escape(<<>>, _shown), do: []
  defp escape("&" <> rest, shown), do: ["&amp;" | escape(rest, shown)]
  defp escape("<" <> rest, shown), do: ["&lt;" | escape(rest, shown)]
  defp escape(">" <> rest, shown), do: ["&gt;" | escape(rest, shown)]
  defp escape("\"" <> rest, shown), do: ["&quot;" | escape(rest, shown)]
  defp escape("'" <> rest, shown), do: ["&#39;" | escape(rest, shown)]

  for first..last//_ <- @unseen do
    defp escape(<<c::utf8, rest::binary>>, shown) when c in unquote(first)..unquote(last),
      do: [shown.("U+" <> hex(c, 4)) | escape(rest, shown)]
  end

  defp escape(<<c::utf8, rest::binary>>, shown), do: [<<c::utf8>> | escape(rest, shown)]
  defp escape(<<byte, rest::binary>>, shown), do: [shown.("byte " <> hex(byte, 2)) | escape(rest, shown)]

  defp hex(number, width), do: number |> Integer.to_string(16) |> String.pad_leading(width, "0")
end
