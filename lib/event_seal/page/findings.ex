defmodule EventSeal.Page.Findings do
  @moduledoc false
  # What both pages say: the verdict, the faults, the damage, the checkpoint and the audit.

  import EventSeal.Page.Html, only: [el: 2, el: 3, theirs: 1]
  import EventSeal.Page.Words, only: [count: 2, count: 3, number: 1]

  alias EventSeal.{Error, Fault, Stamp, Verdict}
  alias EventSeal.Page.{Html, Words}

  @shown 100

  @spec header(String.t(), String.t(), map) :: Html.t()
  def header(kind, name, found) do
    el(:header, [
      el(:p, [class: "kind"], ["EventSeal · ", kind, " · ", el(:time, Words.second(found.at)), " UTC"]),
      el(:h1, theirs(name))
    ])
  end

  @spec verdict(map) :: Html.t()
  def verdict(%{verdict: verdict} = found) do
    el(:section, [class: "verdict " <> if(found.ok, do: "good", else: "bad"), aria_label: "Verdict"], [
      el(:p, [class: "said"], [mark(found.ok), " ", headline(found)]),
      el(:p, [
        "Read back from the stored bytes and recomputed: #{count(verdict.events, "event")} of " <>
          "#{count(verdict.flows, "flow")}, in #{count(verdict.blocks, "block")}. " <>
          "#{number(verdict.fixed)} are fixed, #{number(verdict.provisional)} are settled and wait to be sealed. ",
        bodies(verdict),
        " It took #{Words.duration(verdict.microseconds)}."
      ])
    ])
  end

  defp mark(true), do: el(:span, [class: "mark", aria_hidden: "true"], "✓")
  defp mark(false), do: el(:span, [class: "mark", aria_hidden: "true"], "✕")

  defp headline(%{verdict: %{fault_count: count}}) when count > 0,
    do: "#{count(count, "fault was", "faults were")} found."

  defp headline(%{verdict: %{damage: [_ | _] = damage}}),
    do: "#{count(length(damage), "place", "places")} of the store’s files could not be read."

  defp headline(%{ok: false}), do: "The events hold, but the log is not what its checkpoint says."
  defp headline(%{verdict: %{events: 0}}), do: "There was nothing to verify."
  defp headline(_found), do: "No fault: every value that was read is what was sealed."

  defp bodies(%Verdict{bodies_verified: verified, bodies_not_shown: 0}),
    do: "#{count(verified, "body was", "bodies were")} verified."

  defp bodies(%Verdict{bodies_verified: verified, bodies_not_shown: hidden}),
    do:
      "#{count(verified, "body was", "bodies were")} verified; #{count(hidden, "body is", "bodies are")} not there and could not be."

  @doc "All faults, each with its place; `place` makes it of a fault."
  @spec faults(map, (Fault.t() -> Html.child())) :: Html.child()
  def faults(%{verdict: %{fault_count: 0}}, _place), do: nil

  def faults(%{verdict: verdict}, place) do
    more = verdict.fault_count - length(Enum.take(verdict.faults, @shown))

    el(:section, [
      el(:h2, "Faults"),
      el(:ol, [class: "faults"], Enum.map(Enum.take(verdict.faults, @shown), &el(:li, fault(&1, place.(&1))))),
      if(more > 0, do: el(:p, "… and #{count(more, "more fault", "more faults")}, not listed here."))
    ])
  end

  @doc "One fault, marked; `place` is said where it does not show by where the fault stands."
  @spec fault(Fault.t(), Html.child()) :: Html.t()
  def fault(%Fault{} = fault, place \\ nil) do
    {title, explanation} = Words.class(fault.class)
    [recorded, recomputed] = Fault.names(fault)

    el(:div, [class: "fault"], [
      el(:p, [el(:strong, ["✕ Fault: ", title]), place && [" · ", place]]),
      el(:p, [explanation, " ", el(:code, Atom.to_string(fault.class))]),
      fault.row && el(:p, ["It lies in ", el(:code, theirs(fault.row)), "."]),
      el(:dl, [class: "digests"], [
        el(:dt, recorded),
        el(:dd, Words.datum(fault.recorded)),
        el(:dt, recomputed),
        el(:dd, Words.datum(fault.recomputed))
      ])
    ])
  end

  @spec damage(map) :: Html.child()
  def damage(%{verdict: %{damage: []}}), do: nil

  def damage(%{verdict: %{damage: damage}}) do
    more = length(damage) - @shown

    el(:section, [
      el(:h2, "Damage"),
      el(
        :p,
        "These places of the store’s files could not be read as they were written. What stood there was not verified."
      ),
      el(:ul, for(note <- Enum.take(damage, @shown), do: el(:li, place(note)))),
      if(more > 0, do: el(:p, "… and #{count(more, "more place", "more places")}."))
    ])
  end

  defp place(note) do
    byte = if note.offset, do: ", byte #{number(note.offset)}"
    ["✕ ", el(:code, theirs(note.file)), byte, ": ", note.what |> Atom.to_string() |> String.replace("_", " ")]
  end

  @doc "The store's last checkpoint; `rest` is what is to be said of it further."
  @spec checkpoint(map, Html.child()) :: Html.t()
  def checkpoint(%{checkpoint: checkpoint}, rest \\ nil),
    do: el(:section, [el(:h2, "Checkpoint"), signed(checkpoint), rest])

  defp signed(nil),
    do: el(:p, "No checkpoint was signed. Whoever could write to the whole store could have recomputed all of it.")

  defp signed(%Error{} = error),
    do: el(:p, [el(:strong, "✕ The checkpoint cannot be read: "), Exception.message(error), "."])

  defp signed(%{last: last} = checkpoint) do
    [
      el(:p, holds(checkpoint)),
      el(:dl, [class: "facts"], [
        el(:dt, "origin"),
        el(:dd, theirs(last.origin)),
        el(:dt, "size"),
        el(:dd, count(last.size, "leaf", "leaves") <> later(checkpoint)),
        el(:dt, "root"),
        el(:dd, el(:code, Base.encode64(last.root))),
        el(:dt, "signed by"),
        el(:dd, el(:code, theirs(last.key))),
        stamp(checkpoint.stamp)
      ])
    ]
  end

  defp stamp(nil), do: nil
  defp stamp(stamp), do: [el(:dt, "time stamp"), el(:dd, theirs(Stamp.to_line(stamp)))]

  defp holds(%{holds: true}),
    do: [
      el(:strong, "✓ The log has the root that was signed."),
      " Compare size, root and key with a copy that is kept outside of this store: only that shows that it is the one."
    ]

  defp holds(%{holds: false}),
    do: [el(:strong, "✕ The log does not have the root that was signed."), " It was changed after the signing."]

  defp later(%{last: %{size: size}, leaves: leaves}) when leaves > size,
    do: "; #{count(leaves - size, "leaf was", "leaves were")} added since"

  defp later(_checkpoint), do: ""

  @doc "How far the audit has come, by its note."
  @spec audit(map) :: Html.child()
  def audit(%{audit: nil}), do: nil

  def audit(%{audit: %{last: last, now: now}}) do
    el(:section, [
      el(:h2, "Audit"),
      el(:dl, [class: "facts"], [el(:dt, "last whole pass"), el(:dd, pass(last)), now(now, last)])
    ])
  end

  defp pass(nil), do: "none yet"

  defp pass(last) do
    took = max(last.ended - last.begun, 0)
    faults = if last.faults == 0, do: "no fault", else: "✕ " <> count(last.faults, "fault")
    rate = if took > 0 and last.events > 0, do: ", #{count(div(last.events * 1_000_000, took), "event")} a second"

    [
      "ended ",
      el(:time, Words.second(last.ended)),
      ": #{count(last.events, "event")} of #{count(last.flows, "flow")}, #{faults}; it took #{Words.duration(took)}",
      rate,
      "."
    ]
  end

  defp now(nil, _last), do: [el(:dt, "under way"), el(:dd, "none")]

  defp now(now, last) do
    [
      el(:dt, "under way"),
      el(:dd, [
        "since ",
        el(:time, Words.second(now.begun)),
        ": #{count(now.flows, "flow")} verified",
        share(now, last),
        "."
      ])
    ]
  end

  defp share(%{flows: flows}, %{flows: all}) when all > 0,
    do: " of about #{number(all)} (#{min(div(flows * 100, all), 100)} %)"

  defp share(_now, _last), do: ""

  @doc "What the words and marks of a page mean."
  @spec legend() :: Html.t()
  def legend do
    el(:section, [class: "legend"], [
      el(:h2, "How to read this page"),
      el(:dl, [class: "facts"], [
        el(:dt, [dot("fixed"), "fixed"]),
        el(:dd, "sealed in a block, with an id that hashes the three events before it, itself and the three after it"),
        el(:dt, [dot("sandbox"), "sandbox"]),
        el(
          :dd,
          "settled: its position is taken and cannot change; it is sealed once three later events stand behind it"
        ),
        el(:dt, [dot("pool"), "pool"]),
        el(:dd, "just written: its author may still amend or retract it, and nothing is verified of it"),
        el(:dt, "late"),
        el(:dd, "it happened before an event that was recorded earlier"),
        el(:dt, "recorded, recomputed"),
        el(
          :dd,
          "the digest that the store holds, and the one that its contents have now; where nothing was changed they are equal"
        )
      ])
    ])
  end

  @spec dot(String.t()) :: Html.t()
  def dot(stage), do: el(:span, [class: "dot " <> stage, aria_hidden: "true"], nil)
end
