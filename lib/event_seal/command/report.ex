defmodule EventSeal.Command.Report do
  @moduledoc false
  # What the commands print. Plain text; progress goes to a terminal alone, on standard error.

  alias EventSeal.{Checkpoint, Error, Export, Fault, Import, Migrate, Rebuild, Restore, Stamp, Verdict}

  @every 100
  @shown 10

  @doc "A function that shows counts on one line of the terminal, or nothing where there is none."
  @spec progress :: (map -> :ok)
  def progress do
    case :io.columns(:standard_error) do
      {:ok, columns} -> show(columns, shown_at(System.monotonic_time(:millisecond)))
      {:error, _} -> fn _ -> :ok end
    end
  end

  @spec import(Import.t(), Path.t()) :: :ok
  def import(%Import{} = report, dir) do
    clear()
    Enum.each(report.bad, &puts("bad line: " <> Import.describe(&1)))
    left_out(report.bad_count - length(report.bad), "bad lines")
    import_result(report, dir)
  end

  @spec export(Export.t(), Path.t()) :: :ok
  def export(%Export{} = report, out) do
    clear()

    puts(
      "Exported #{count(report.events, "event")} of #{count(report.flows, "flow")} to #{out}#{took(report, report.events)}."
    )

    if report.in_pool > 0, do: puts("#{count(report.in_pool, "event")} in the pool: not settled yet, and not exported.")
    :ok
  end

  @spec restore(Restore.t(), Path.t()) :: :ok
  def restore(%Restore{} = report, dir) do
    there = if report.there > 0, do: ", #{count(report.there, "flow")} there already", else: ""
    log = "#{number(report.leaves)} leaves and #{count(report.checkpoints, "checkpoint")} in its log"
    puts("Brought #{count(report.flows, "flow")} of #{count(report.events, "event")} back to #{dir}#{there}; #{log}.")
  end

  @spec rebuild(Rebuild.t(), String.t(), String.t(), Path.t()) :: :ok
  def rebuild(%Rebuild{} = report, dir, new, record) do
    verdict(report.verdict, dir)

    if Verdict.ok?(report.verdict) do
      log = "#{number(report.leaves)} leaves and #{count(report.checkpoints, "checkpoint")} of the log"

      puts(
        "Made #{new} its verification store: #{count(report.blocks, "block")} of #{count(report.flows, "flow")}, #{log}."
      )

      puts("That is on record in the log; what its leaves say is kept in #{record}.")
    else
      puts("Nothing was copied: a verification store vouches for what was right when it was made.")
    end
  end

  @spec head(non_neg_integer, Path.t()) :: :ok
  def head(count, out), do: puts("Wrote the heads of #{count(count, "flow")} to #{out}. Keep it apart from the store.")

  @spec sql([{pos_integer, String.t()}]) :: 0
  def sql(migrations) do
    for {_version, text} <- migrations, do: IO.puts(["BEGIN;\n\n", text, "\nCOMMIT;"])
    0
  end

  @spec setup([pos_integer], String.t()) :: :ok
  def setup([], url), do: puts("The tables in #{url} are of this version already.")
  def setup(versions, url), do: puts("Brought the tables in #{url} to version #{List.last(versions)}.")

  @spec check([Fault.t()], String.t()) :: :ok
  def check([], url), do: puts("The tables in #{url} are as they were made, and their columns are what the bytes say.")

  def check(faults, url) do
    puts("#{count(length(faults), "FAULT")} in the tables in #{url}:")
    Enum.each(faults, &fault/1)
  end

  @spec migrate(Migrate.t(), String.t()) :: :ok
  def migrate(%Migrate{} = report, to) do
    clear()
    leaves = count(report.leaves, "leaf", "leaves")
    puts("Moved #{count(report.blocks, "block")} of #{count(report.flows, "flow")} and #{leaves} of the log to #{to}.")
  end

  @spec key(String.t(), Path.t()) :: :ok
  def key(key, out) do
    puts("Wrote a secret key to #{out}: keep it, and keep it secret. Whoever verifies needs this one:")
    puts(key)
  end

  @spec checkpoint(Checkpoint.t(), Path.t()) :: :ok
  def checkpoint(checkpoint, out) do
    puts("Wrote the checkpoint of #{count(checkpoint.size, "leaf", "leaves")} to #{out}. Keep it apart from the store.")
    puts("It is signed by #{checkpoint.key}")
  end

  @spec stamp_request(Path.t()) :: :ok
  def stamp_request(out) do
    puts("Wrote what a time-stamp authority is to be asked to #{out}. Keep it: its answer is checked against it.")
  end

  @spec stamp(Stamp.t(), Path.t()) :: :ok
  def stamp(stamp, dir), do: puts("Kept in #{dir}: #{Stamp.to_line(stamp)}.")

  @spec proof(pos_integer, boolean, Path.t()) :: :ok
  def proof(n, disclose, out) do
    shown = if disclose, do: "with its body", else: "without its body"
    puts("Wrote the proof of the event at position #{n}, #{shown}, to #{out}.")
  end

  @spec packet(pos_integer, boolean | [pos_integer], Path.t()) :: :ok
  def packet(bytes, disclose, out) do
    shown =
      case disclose do
        true -> "all bodies"
        none when none in [false, []] -> "no body"
        positions -> "#{count(length(positions), "body", "bodies")} at most"
      end

    puts("Wrote #{number(bytes)} bytes to #{out}: #{shown} in it, of the others their commitments.")
  end

  @doc "What a file shows whose signatures hold."
  @spec signed(Path.t(), String.t(), String.t()) :: :ok
  def signed(path, what, key), do: puts("#{path}: #{what} signed by #{key}")

  @spec page(boolean, Path.t()) :: :ok
  def page(ok, out) do
    clear()
    puts("Wrote the report to #{out}: #{if ok, do: "no fault", else: "FAULTS were found"}.")
  end

  @spec verdict(Verdict.t(), String.t()) :: :ok
  def verdict(%Verdict{} = verdict, what) do
    clear()
    puts("Verified #{what}#{took(verdict, verdict.events)}.")

    puts(
      "  #{count(verdict.flows, "flow")}, #{count(verdict.blocks, "block")}, #{count(verdict.events, "event")}: " <>
        "#{number(verdict.fixed)} fixed, #{number(verdict.provisional)} provisional"
    )

    puts(
      "  #{count(verdict.bodies_verified, "body", "bodies")} verified, #{number(verdict.bodies_not_shown)} not shown"
    )

    log(verdict)
    kept(verdict)
    if verdict.since, do: puts("  " <> since(verdict))
    if verdict.stamp, do: puts("  " <> Stamp.to_line(verdict.stamp))
    faults(verdict)
    damage(verdict.damage)
  end

  defp log(%Verdict{leaves: nil}), do: :ok

  defp log(verdict) do
    unknown = if verdict.unknown_leaves > 0, do: ", #{number(verdict.unknown_leaves)} of unknown types", else: ""
    puts("  #{count(verdict.leaves, "leaf", "leaves")} of the log held against them#{unknown}; #{covered(verdict)}")
  end

  defp since(verdict) do
    "since the checkpoint of #{count(verdict.since, "leaf", "leaves")}: #{count(verdict.unseen, "event")} that it covers NOT looked at"
  end

  defp kept(%Verdict{kept: nil}), do: :ok

  defp kept(verdict) do
    late = if verdict.behind > 0, do: "; #{number(verdict.behind)} blocks and leaves are not there yet", else: ""
    puts("  #{count(verdict.kept, "block")} compared with the verification store#{late}")
  end

  defp covered(%{checkpoint: nil}), do: "no checkpoint covers them"

  defp covered(verdict) do
    "the last checkpoint, of #{count(verdict.checkpoint, "leaf", "leaves")}, covers #{number(verdict.covered)} " <>
      "of #{count(verdict.events, "event")}"
  end

  defp damage([]), do: :ok

  defp damage(notes) do
    puts(
      "DAMAGE: #{count(length(notes), "damaged place")} in the store's files; what could not be read was not verified:"
    )

    for %{what: what, file: file, offset: offset} <- notes,
        do: puts("  #{file}#{offset && ", byte #{offset}"}: #{what}")

    left_out(length(notes) - @shown, "damaged places")
    :ok
  end

  @doc "An error, or the reason for which a process did not start, in words."
  @spec error(term) :: String.t()
  def error(%Error{} = error), do: "event_seal: " <> Exception.message(error)

  def error(reason) do
    case find(reason) do
      %Error{} = error -> error(error)
      nil -> "event_seal: could not start: " <> Exception.format_exit(reason)
    end
  end

  @doc "1234567 as 1,234,567."
  @spec number(integer) :: String.t()
  def number(integer), do: integer |> Integer.to_string() |> String.replace(~r/(?<=\d)(?=(\d{3})+$)/, ",")

  defp import_result(%Import{kept: false} = report, _dir) do
    puts("#{count(report.bad_count, "bad line")} in #{count(report.files, "file")}: nothing was imported.")
    puts("Mend them, or leave them out with --skip-bad.")
  end

  defp import_result(report, dir) do
    skipped = if report.bad_count > 0, do: ", #{count(report.bad_count, "bad line")} left out", else: ""

    puts(
      "Imported #{count(report.lines, "event")} of #{count(report.flows, "flow")} " <>
        "from #{count(report.files, "file")} into #{dir}#{took(report, report.lines)}#{skipped}."
    )

    puts("  #{number(report.added)} added, #{number(report.lines - report.added)} were there already")
  end

  defp faults(%Verdict{fault_count: 0, events: 0}), do: puts("There was nothing to verify.")
  defp faults(%Verdict{fault_count: 0}), do: puts("No fault: every value that was read is what was sealed.")

  defp faults(verdict) do
    puts("#{count(verdict.fault_count, "FAULT")}:")
    Enum.each(verdict.faults, &fault/1)
    left_out(verdict.fault_count - length(verdict.faults), "faults")
  end

  defp fault(%Fault{} = fault) do
    block = if fault.block, do: ", block #{fault.block}", else: ""
    puts("  #{fault.flow || "unknown flow"}, position #{fault.position}#{block}: #{fault.class}")
    names = Fault.names(fault)
    width = names |> Enum.map(&String.length/1) |> Enum.max()

    for {name, datum} <- Enum.zip(names, [fault.recorded, fault.recomputed]),
        do: puts("    #{String.pad_trailing(name, width)}  #{datum(datum)}")

    for note <- Fault.notes(fault), do: puts("    #{note}")
  end

  defp datum(nil), do: "nothing"
  defp datum(digest) when is_binary(digest), do: Base.encode16(digest, case: :lower)
  defp datum(integer), do: Integer.to_string(integer)

  defp left_out(count, what) when count > 0, do: puts("  … and #{number(count)} more #{what}")
  defp left_out(_count, _what), do: :ok

  defp count(1, one), do: "1 #{one}"
  defp count(number, one), do: "#{number(number)} #{one}s"
  defp count(1, one, _many), do: "1 #{one}"
  defp count(number, _one, many), do: "#{number(number)} #{many}"

  defp took(%{microseconds: microseconds}, events) do
    rate = if microseconds > 0, do: " (#{number(div(events * 1_000_000, microseconds))} events/s)", else: ""
    " in #{:erlang.float_to_binary(microseconds / 1_000_000, decimals: 2)} s#{rate}"
  end

  # A name that comes from a file may hold what a terminal would obey.
  @spec puts(String.t()) :: :ok
  def puts(text), do: text |> String.replace(~r/[\x00-\x1f\x7f-\x{9f}]/u, "?") |> IO.puts()

  defp show(columns, last) do
    fn counts ->
      now = System.monotonic_time(:millisecond)

      if now - :counters.get(last, 1) >= @every do
        :counters.put(last, 1, now)
        IO.write(:stderr, ["\r", counts |> line() |> String.slice(0, columns - 1) |> String.pad_trailing(columns - 1)])
      end

      :ok
    end
  end

  defp shown_at(now) do
    last = :counters.new(1, [])
    :counters.put(last, 1, now)
    last
  end

  defp line(counts) do
    {step, counts} = Map.pop(counts, :step)
    text = Enum.map_join(counts, ", ", fn {name, count} -> "#{number(count)} #{name}" end)
    if step, do: "#{step}: #{text}", else: text
  end

  defp clear, do: if(match?({:ok, _}, :io.columns(:standard_error)), do: IO.write(:stderr, "\r\e[K"), else: :ok)

  # The supervisors above wrap the reason in theirs.
  defp find(%Error{} = error), do: error
  defp find(tuple) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> find()
  defp find([head | tail]), do: find(head) || find(tail)
  defp find(_other), do: nil
end
