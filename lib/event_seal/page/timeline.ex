defmodule EventSeal.Page.Timeline do
  @moduledoc false
  # The page of one flow: its events in their order, in the blocks that hold them.

  import EventSeal.Page.Html, only: [el: 2, el: 3, theirs: 1]
  import EventSeal.Page.Words, only: [count: 2, count: 3, number: 1]

  alias EventSeal.Page.{Findings, Html, Words}

  @body 4_096
  @bands 400

  @spec of(map) :: [Html.child()]
  def of(found) do
    [
      Findings.header("report on one flow", found.flow, found),
      Findings.verdict(found),
      Findings.faults(found, &place(&1, found.elsewhere)),
      Findings.damage(found),
      el(:section, [
        el(:h2, "Timeline"),
        el(:p, sizes(found)),
        strip(found),
        Enum.map(gathered(found.parts), &part(&1, found)),
        unread(found)
      ]),
      Findings.checkpoint(found, covered(found)),
      Findings.audit(found),
      Findings.legend()
    ]
  end

  defp place(fault, elsewhere) do
    block = if fault.block, do: ", block #{fault.block}"
    said = ["position #{number(fault.position)}", block]
    if fault in elsewhere, do: said, else: el(:a, [href: "#" <> target(fault)], said)
  end

  # The block is marked where the event is not shown, and an event within its block.
  defp target(%{position: position}), do: "n#{position}"

  defp sizes(%{head: head} = found) do
    shown = Enum.reduce(found.parts, 0, fn part, sum -> sum + length(part.events) end)
    left_out = Enum.reduce(found.parts, 0, fn part, sum -> sum + part.left_out end)
    closed = if head.closed, do: " The flow is closed: nothing can follow."

    [
      "#{count(head.fixed, "event is", "events are")} fixed in #{count(head.blocks, "block")}, " <>
        "#{number(head.sandbox)} in the sandbox, #{number(head.pool)} in the pool.",
      closed,
      if(left_out > 0,
        do:
          el(:strong, [
            " #{count(shown, "event is", "events are")} shown, the newest and those with a fault that is listed; " <>
              "#{number(left_out)} are left out here. The verdict is of all."
          ])
      ),
      unless(found.bodies, do: " Bodies are not shown.")
    ]
  end

  # The whole flow at one glance: its blocks, what waits behind them, how far the checkpoint reaches, and the faults.
  defp strip(%{head: head} = found) do
    total = head.fixed + head.sandbox + head.pool

    if total > 0 do
      x = fn position -> Float.round((position - 1) * 1000 / total, 2) end
      bands = for part <- bands(found.parts), do: rect(part_class(part), x.(part.first), x.(part.last + 1), 8, 16)
      faults = for fault <- found.verdict.faults, fault.position in 1..total, do: fault_at(x.(fault.position))

      line =
        if found.covered in 1..total, do: rect("line", x.(found.covered + 1) - 1.5, x.(found.covered + 1) + 1.5, 2, 28)

      el(:figure, [class: "strip"], [
        el(
          :svg,
          [
            viewBox: "0 0 1000 32",
            preserveAspectRatio: "none",
            role: "img",
            aria_label: "The flow from its first event to its last"
          ],
          [
            bands,
            line,
            faults
          ]
        ),
        el(:figcaption, [
          el(:span, "position 1"),
          if(found.covered in 1..total, do: el(:span, ["┃ checkpoint up to #{number(found.covered)}"])),
          if(faults != [], do: el(:span, [class: "red"], "✕ tall bar: fault")),
          el(:span, count(total, "event"))
        ])
      ])
    end
  end

  # So many blocks could not be told apart, and are one.
  defp bands(parts) do
    case Enum.split_with(parts, &(&1.stage == :fixed)) do
      {blocks, waiting} when length(blocks) > @bands -> [%{hd(blocks) | last: List.last(blocks).last} | waiting]
      _few -> parts
    end
  end

  defp part_class(%{stage: :fixed, block: height}), do: if(rem(height, 2) == 0, do: "fixed", else: "fixed odd")
  defp part_class(%{stage: stage}), do: Atom.to_string(stage)

  defp fault_at(x), do: rect("fault", max(x - 1, 0), x + 5, 0, 32)

  defp rect(class, from, to, y, height),
    do:
      el(
        :rect,
        [class: class, x: max(from, 0), y: y, width: max(Float.round((to - from) * 1.0, 2), 0.5), height: height],
        nil
      )

  # Blocks of which nothing is shown, one after the other, are one line.
  defp gathered(parts) do
    parts
    |> Enum.chunk_by(&if(&1.events == [] and &1.faults == [], do: :left_out, else: {&1.stage, &1.block}))
    |> Enum.flat_map(fn
      [%{events: [], faults: []} | _] = parts -> [{:left_out, hd(parts), List.last(parts)}]
      parts -> parts
    end)
  end

  defp part({:left_out, first, last}, found) do
    blocks = if first.block == last.block, do: "Block #{first.block}", else: "Blocks #{first.block} to #{last.block}"

    el(
      :p,
      [class: "gap"],
      "#{blocks}, positions #{number(first.first)} to #{number(last.last)}: left out#{if found.all_faults, do: ", no fault"}."
    )
  end

  defp part(part, found) do
    el(:section, [class: "band " <> Atom.to_string(part.stage)], [
      el(:h3, [id: if(part.events == [], do: "n#{part.first}")], [
        title(part),
        if(part.faults != [], do: el(:span, [class: "tag bad"], "✕ fault"))
      ]),
      el(:p, [class: "facts"], facts(part)),
      Enum.map(part.faults, &Findings.fault(&1, "the block as a whole")),
      if(part.left_out > 0, do: el(:p, [class: "gap"], "#{count(part.left_out, "event")} of it left out.")),
      if(part.events != [], do: el(:ol, [class: "events"], Enum.map(part.events, &event(&1, found))))
    ])
  end

  defp title(%{stage: :fixed} = part), do: "Block #{part.block}"
  defp title(%{stage: :sandbox}), do: "Sandbox"
  defp title(%{stage: :pool}), do: "Pool"

  defp facts(%{stage: :pool} = part),
    do: "#{count(length(part.events) + part.left_out, "event")} without a position yet"

  defp facts(part) do
    [
      if(part.first == part.last,
        do: "position #{number(part.first)}",
        else: "positions #{number(part.first)} to #{number(part.last)}"
      ),
      sealed(part)
    ]
  end

  defp sealed(%{stage: :sandbox}), do: " · settled, not sealed yet"
  defp sealed(%{header: nil}), do: " · its contents cannot be shown"

  defp sealed(part) do
    [
      " · sealed ",
      el(:time, Words.second(part.header.sealed_at)),
      if(part.covered, do: " · in the checkpoint", else: " · not in a checkpoint"),
      if(part.header.closes, do: " · closes the flow")
    ]
  end

  defp event({event, faults}, found) do
    class = [Atom.to_string(event.stage), if(event.late, do: " late"), if(faults != [], do: " bad")]

    [
      el(:li, [id: event.n && "n#{event.n}", class: IO.iodata_to_binary(Enum.reject(class, &is_nil/1))], [
        el(:span, [class: "n"], [Findings.dot(Atom.to_string(event.stage)), if(event.n, do: number(event.n), else: "–")]),
        el(:time, Words.time(event.when)),
        el(:span, [class: "what"], [el(:strong, theirs(event.kind)), where(event.where), who(event.who)]),
        el(:span, [class: "tags"], tags(event, faults)),
        Enum.map(faults, &Findings.fault/1),
        body(event, found)
      ]),
      if(event.n && event.n == found.covered, do: checkpoint(found))
    ]
  end

  defp where(nil), do: nil
  defp where({:place, place}), do: [" at ", theirs(place)]
  defp where({:geo, latitude, longitude}), do: " at #{latitude}°, #{longitude}°"

  defp who(nil), do: nil
  defp who(who), do: [" by ", theirs(who)]

  defp tags(event, faults) do
    [
      if(faults != [], do: tag("✕ fault", "bad")),
      if(event.late, do: tag("late", "late")),
      if(event.revision > 0, do: tag("amended #{event.revision}×", "")),
      tag(Atom.to_string(event.stage), "stage")
    ]
  end

  defp tag(text, class), do: el(:span, [class: "tag " <> class], text)

  defp checkpoint(found) do
    el(:li, [class: "checkpoint"], ["Checkpoint of ", theirs(found.checkpoint.last.origin), ": signed up to here"])
  end

  defp body(_event, %{bodies: false}), do: nil
  defp body(%{body: nil}, _found), do: el(:p, [class: "body"], "Its body is not there.")
  defp body(%{body: ""}, _found), do: nil

  defp body(%{body: body}, _found) do
    {shown, note} = if String.valid?(body), do: {cut(body), nil}, else: {hex(body), "not text, shown in hex"}
    more = if byte_size(body) > @body, do: "the first #{number(@body)} of #{count(byte_size(body), "byte")}"
    notes = Enum.reject([note, more], &is_nil/1)
    el(:div, [class: "body"], [el(:pre, lines(shown)), if(notes != [], do: el(:p, Enum.intersperse(notes, ", ")))])
  end

  # Lines and tabs stand as they are; all else that does not show is shown by its number.
  defp lines(text) do
    text
    |> String.split(~r/[\n\t]/, include_captures: true)
    |> Enum.map(&if(&1 in ["\n", "\t"], do: Html.raw(&1), else: &1))
  end

  defp cut(text) when byte_size(text) <= @body, do: text
  defp cut(text), do: text |> binary_part(0, @body) |> whole()

  defp whole(text), do: if(String.valid?(text), do: text, else: text |> binary_part(0, byte_size(text) - 1) |> whole())

  defp hex(body), do: body |> binary_part(0, min(byte_size(body), @body)) |> Base.encode16(case: :lower)

  defp covered(%{checkpoint: %{holds: true}, covered: 0}), do: el(:p, "It tells nothing of this flow.")

  defp covered(%{checkpoint: %{holds: true}, covered: n}) do
    el(
      :p,
      "Of this flow it tells that there were #{count(n, "position")} when it was signed. What came later rests on the store alone."
    )
  end

  defp covered(_found), do: nil

  defp unread(%{whole: true}), do: nil

  defp unread(_found),
    do:
      el(:p, [class: "gap"], [
        el(:strong, "✕ What is not sealed of this flow could not all be read."),
        " What could not is not shown here."
      ])
end
