# The main job in half a minute: a hospital's movements go in, set like concrete and are verified; then a stored record
# is changed behind the library's back, and the verification says which. bin/demo runs it.
defmodule Demo do
  alias EventSeal.{Command, Error, Import, Proof, Signer, Store, Verdict}
  alias EventSeal.Command.Report

  @data "demo-data"
  @store Path.join(@data, "store")
  @key Path.join(@data, "log.key")
  @proof Path.join(@data, "discharge.proof")
  @report Path.join(@data, "report.html")
  @sample "samples/movements.jsonl"
  @window 1_500
  @waves 20
  @pause 100
  @tick 250
  @true_words ~s("discharge_category":"Home")
  @false_words ~s("discharge_category":"Died")

  def run do
    Logger.configure(level: :warning)
    {:ok, _} = Application.ensure_all_started(:event_seal)
    File.rm_rf!(@data)
    File.mkdir_p!(@data)
    {:ok, movements} = Import.reduce(@sample, [], &(&2 ++ &1))
    flows = movements |> Enum.map(&elem(&1, 1)) |> Enum.uniq()
    {:ok, key} = Signer.File.generate(@key, "hospital.example/log")
    {:ok, hospital} = start()

    title("A hospital's movements, sealed", """
    #{Report.number(length(movements))} admissions, transfers, discharges and procedures of #{length(flows)} patients: one flow for each patient.
    What is written stays in the pool for #{@window / 1000} s here, where its author may correct it. Then it settles
    into the sandbox: its place is taken. Once three later events of the patient stand behind it,
    it can be fixed: sealed in a block, for ever.
    """)

    show_stages(movements, flows)
    second_thoughts(List.last(movements))
    seal(flows)
    intact = verify("Is everything as it was written?")
    {event, stored} = discharge(flows)
    proof = prove(event, key)
    changed = tamper(event, stored)
    caught = verify("Is everything as it was written?")
    rang = alarm?()
    kept = hold(proof, event, key)
    say("")
    Supervisor.stop(hospital)
    conclude(intact, caught, changed, rang and kept, key)
  end

  defp start do
    block = [max_events: 4096, max_bytes: 8_388_608, max_age: 1_000]
    checkpoints = [signer: {Signer.File, @key}]
    opts = [name: Hospital, store: {Store.Disk, dir: @store}, pool_window: @window, block: block]
    EventSeal.start_link(opts ++ [checkpoints: checkpoints])
  end

  # The wards write at their own pace while the table is drawn; only the time inside `append_many/2` counts as writing.
  defp show_stages(movements, flows) do
    started = now()
    wards = Task.async(fn -> write(movements) end)
    say("   time        pool                   sandbox                fixed")
    draw(flows, length(movements), started)
    written = Task.await(wards)
    rate = div(length(movements) * 1_000_000, max(written, 1))
    say("")

    say(
      "Writing took #{seconds(written)} of that: #{Report.number(rate)} events/s, each on disk before it was confirmed."
    )

    say("Each patient's last three events stay in the sandbox until others follow, or the flow is closed.")
  end

  defp write(movements) do
    movements
    |> Enum.chunk_every(ceil(length(movements) / @waves))
    |> Enum.map(fn wave ->
      batch = for {_line, flow, event, euid} <- wave, do: {flow, event, euid: euid}
      {microseconds, {:ok, _receipts}} = :timer.tc(fn -> EventSeal.append_many(Hospital, batch) end)
      Process.sleep(@pause)
      microseconds
    end)
    |> Enum.sum()
  end

  defp draw(flows, total, started) do
    {pool, sandbox, fixed} = stages = stages(flows)
    bars = Enum.map_join(Tuple.to_list(stages), "  ", &bar(&1, total))
    say("  #{String.pad_leading(seconds(now() - started), 6)}  #{bars}")

    unless pool == 0 and pool + sandbox + fixed == total and sandbox <= 3 * length(flows) do
      Process.sleep(@tick)
      draw(flows, total, started)
    end
  end

  defp stages(flows) do
    Enum.reduce(flows, {0, 0, 0}, fn flow, {pool, sandbox, fixed} ->
      case EventSeal.head(Hospital, flow) do
        {:ok, head} -> {pool + head.pool, sandbox + head.settled - head.fixed, fixed + head.fixed}
        {:error, %Error{reason: :not_found}} -> {pool, sandbox, fixed}
      end
    end)
  end

  defp bar(count, total) do
    marks = ceil(count * 14 / total)
    String.pad_leading(Report.number(count), 5) <> " " <> String.pad_trailing(String.duplicate("#", marks), 15)
  end

  defp second_thoughts({_line, flow, event, _euid}) do
    title("Second thoughts", "A nurse writes down a temperature, and sees the slip while the event is in the pool.")
    vital = %{when: event.when, where: event.where, who: "nurse/7", kind: "vital", body: "temperature 73.2"}
    {:ok, receipt} = EventSeal.append(Hospital, flow, vital)
    say("  written    temperature 73.2   #{flow}")
    {:ok, _} = EventSeal.amend(Hospital, flow, receipt.euid, %{vital | body: "temperature 37.2"})
    say("  corrected  temperature 37.2   still in the pool, so it may be")
    {:ok, _} = EventSeal.settle(Hospital, flow)
    {:error, %Error{} = error} = EventSeal.amend(Hospital, flow, receipt.euid, %{vital | body: "temperature 36.6"})
    say("  refused    temperature 36.6   #{Exception.message(error)}")
  end

  defp seal(flows) do
    title("Sealed and verified", "What can be fixed is sealed now, and all is read back from the disk and recomputed.")

    for flow <- flows, do: {:ok, _count} = EventSeal.seal(Hospital, flow)
  end

  defp verify(question) do
    say([question, "\n"])
    {:ok, verdict} = EventSeal.verify(Hospital)
    Report.verdict(verdict, @store)
    verdict
  end

  # What a patient, another hospital or a court takes away: a text that needs no store, and no trust in who made it.
  defp prove(event, key) do
    title("Proved to whoever asks", """
    A checkpoint is signed over all that was sealed and settled. From it a proof is made of one event,
    a patient's discharge: it can be checked alone, by the hospital's public key.
    """)

    {:ok, checkpoint} = EventSeal.checkpoint(Hospital)
    {:ok, proof} = EventSeal.prove(Hospital, event.flow, event.n, disclose: true)
    File.write!(@proof, proof)
    {:ok, proven} = Proof.verify(proof, key: key)
    say("  checkpoint  #{Report.number(checkpoint.size)} leaves, signed by #{checkpoint.origin}")
    say("  proof       #{@proof}, #{Report.number(byte_size(proof))} bytes")
    say("  it proves   #{proven.event.flow}, position #{proven.event.n}, a #{proven.event.kind}")
    proof
  end

  # After the forgery.
  defp hold(proof, event, key) do
    {:ok, proven} = Proof.verify(proof, key: key)
    {:error, refused} = EventSeal.prove(Hospital, event.flow, event.n, disclose: true)
    say("")
    say("The proof made before still shows the record as it was. Of the changed one none can be made:")
    say("  #{Exception.message(refused)}")
    proven.event.body =~ @true_words
  end

  # The salt makes the stored bytes of a body unlike all others, so there is one place where it can be.
  defp tamper(event, stored) do
    false_body = String.replace(stored, @true_words, @false_words)
    [{path, offset}] = places(stored)
    {:ok, file} = :file.open(path, [:raw, :binary, :read, :write])
    :ok = :file.pwrite(file, offset, false_body)
    :ok = :file.close(file)

    title("Someone changes the record", """
    Whoever has the disk can write on it. In #{path}
    a patient who went home is made to have died; nobody asked the library.
    """)

    say("  #{event.flow}, position #{event.n}, a #{event.kind}")
    say("  before  #{@true_words}")
    say("  after   #{@false_words}")
    say("")
    {event.flow, event.n}
  end

  defp discharge(flows) do
    event =
      flows
      |> Stream.flat_map(&EventSeal.stream(Hospital, &1))
      |> Enum.find(&(&1.stage == :fixed and &1.kind == "discharge" and String.contains?(&1.body, @true_words)))

    {event, <<event.salt::binary, byte_size(event.body)::64, event.body::binary>>}
  end

  defp places(stored) do
    for path <- Path.wildcard(@store <> "/**/*.segment"),
        {offset, _length} <- :binary.matches(File.read!(path), stored),
        do: {path, offset}
  end

  defp alarm?, do: Enum.any?(:alarm_handler.get_alarms(), &match?({{EventSeal, _}, _}, &1))

  defp conclude(intact, caught, {flow, position}, rang, key) do
    named = match?([%{flow: ^flow, position: ^position, class: :commitment}], caught.faults)
    said = Command.report(["--dir", @store, "--out", @report]) == 1
    as_it_should = Verdict.ok?(intact) and named and rang and said

    if named,
      do: say("The verdict names the patient, the event, and both digests. Whoever runs the host hears an alarm.")

    unless as_it_should, do: say("This demo did not go as it should.")
    say("The report, a page to look at, is #{@report}.")
    say("The data, with the changed record in it, is in #{@data}/. Verify it again by")
    say("  mix event_seal.verify --dir #{@store}")
    say("and the proof, on any machine, with no store and no BEAM, by")
    say("  cargo run --release --quiet --package event-seal-cli -- verify --key '#{key}' #{@proof}")
    if as_it_should, do: 0, else: 1
  end

  defp title(title, text) do
    say(["\n", IO.ANSI.format([:bright, title])])
    say([String.duplicate("-", String.length(title)), "\n", String.trim_trailing(text), "\n"])
  end

  defp now, do: System.monotonic_time(:microsecond)
  defp seconds(microseconds), do: :erlang.float_to_binary(microseconds / 1_000_000, decimals: 2) <> " s"
  defp say(text), do: IO.puts(text)
end

System.halt(Demo.run())
