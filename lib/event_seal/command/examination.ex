defmodule EventSeal.Command.Examination do
  @moduledoc false
  # What `event_seal.doctor` says: to the one who asked, plainly, and to the new folder, a fact a line. Flows are named by
  # their genesis digests.

  alias EventSeal.{Decision, Doctor, Verdict}
  alias EventSeal.Command.Report

  @shown 20

  @spec print(Doctor.t(), Path.t(), Path.t() | nil) :: :ok
  def print(found, dir, out) do
    say(if Doctor.healthy?(found), do: "#{dir} is healthy.", else: "#{dir} is DAMAGED:")
    list(damage(found) ++ faults(found), "  ")
    say(if out, do: "Saved to #{out}:", else: "What can be saved:")
    say("  #{saved(found)}")

    if found.mended > 0,
      do: say("  #{Report.number(found.mended)} of these blocks had one byte changed, and are as they were sealed")

    if found.by_kept > 0,
      do:
        say(
          "  #{Report.number(found.by_kept)} of these blocks hold with the digests that the verification store has of them"
        )

    if found.log_kept, do: say("  the log is the verification store's")

    if found.apart > 0,
      do: say("  #{events(found.apart)} intact, but behind a loss: kept apart, in no flow of the new store")

    losses(found)

    if found.verdict.damage != [],
      do: say("What stood in the damaged places, and nothing else tells of, cannot be counted.")

    next(found, dir, out)
  end

  defp saved(found) do
    "#{Report.number(found.flows)} flows, #{Report.number(found.blocks)} blocks, #{events(found.events)} settled, " <>
      "#{events(found.pool)} in the pool, #{Report.number(found.leaves)} items of the log"
  end

  defp events(1), do: "1 event"
  defp events(count), do: "#{Report.number(count)} events"

  defp losses(%{lost: 0, log_lost: 0, broken: []} = found),
    do: say(if(Doctor.healthy?(found), do: "Nothing is lost.", else: "No settled event is known to be lost."))

  defp losses(found) do
    say("LOST: #{events(found.lost)}, #{Report.number(found.log_lost)} items of the log")
    list(Enum.map(found.broken, &broken/1), "  ")
  end

  defp broken(flow) do
    "flow #{flow.flow}: #{flow.saved} of #{flow.known} positions saved, #{flow.apart} apart, lost: #{ranges(flow.lost)}"
  end

  defp ranges([]), do: "none"

  defp ranges(ranges),
    do: Enum.map_join(ranges, " ", fn first..last//_ -> if(first == last, do: "#{first}", else: "#{first}-#{last}") end)

  defp next(%{saved_verdict: nil} = found, dir, nil) do
    unless Doctor.healthy?(found) do
      say("Nothing was changed. Next: keep #{dir} as it is, then")
      say("  mix event_seal.doctor --dir #{dir} --out NEW")
    end
  end

  defp next(found, dir, out) do
    if Verdict.ok?(found.saved_verdict),
      do: say("The new store was verified: no fault."),
      else:
        say(
          "The new store was verified: #{found.saved_verdict.fault_count} faults, those of single events named above."
        )

    say(
      "Next: keep #{dir} as it is. What is lost may stand in a backup: examine that too, and take the one that holds more."
    )

    say("Then start the host on #{out}. The verdict is kept in #{out}/doctor/report.txt.")
  end

  defp damage(found),
    do: for(note <- found.verdict.damage, do: "damage #{note.what} #{note.file} #{note.offset || "-"}")

  defp faults(found) do
    for {flow, fault} <- found.faults, do: "fault #{fault.class} #{flow} #{fault.position} #{fault.block || "-"}"
  end

  defp list(lines, indent) do
    for line <- Enum.take(lines, @shown), do: say(indent <> line)
    if length(lines) > @shown, do: say("#{indent}… and #{length(lines) - @shown} more")
  end

  @doc "The report that is kept: its first line names its form, each further one begins with what it tells."
  @spec record(Doctor.t(), Path.t()) :: iolist
  def record(found, dir) do
    lines =
      ["event-seal-doctor/1", "source #{dir}", "examined_at #{DateTime.utc_now()}"] ++
        ["verdict #{if Doctor.healthy?(found), do: "healthy", else: "damaged"}"] ++
        damage(found) ++
        faults(found) ++
        for(
          key <- [:flows, :blocks, :events, :pool, :spent, :leaves, :mended, :by_kept],
          do: "saved_#{key} #{Map.fetch!(found, key)}"
        ) ++
        ["log_kept #{found.log_kept}", "apart #{found.apart}", "lost #{found.lost}", "log_lost #{found.log_lost}"] ++
        Enum.map(found.broken, &broken/1) ++
        Enum.map(found.decisions, &Decision.to_line/1) ++ ["saved_faults #{found.saved_verdict.fault_count}"]

    Enum.map(lines, &[&1, ?\n])
  end

  defp say(text), do: Report.puts(text)
end
