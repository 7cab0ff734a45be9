defmodule EventSeal.Auditor do
  @moduledoc """
  The process that verifies everything again and again, within a budget, while the host goes on: the option `:audit`.

  It goes flow by flow, and notes in a file of its own (`file:`, mode 0600; it names one flow) how far it has come, so that a
  restart costs nothing of a pass that takes a week. A fault sets the alarm `{EventSeal, name}` at once and emits
  `[:event_seal, :auditor, :fault]`; a whole pass that finds none clears it. `EventSeal.health/1` says how things stand.
  """
  use GenServer

  require Logger
  alias EventSeal.{Alarm, Apart, Error, Instance, Reader, Telemetry, Verdict, Verifier}
  alias EventSeal.Stamp.Kept

  # So long nothing else is heard, and so much is done again after a crash.
  @slice 1_000
  @faults 100
  @retry 60_000
  @form "event-seal-audit/1"

  @doc false
  def child_spec(name), do: %{id: __MODULE__, start: {__MODULE__, :start_link, [name]}}

  @doc false
  def start_link(name), do: GenServer.start_link(__MODULE__, name, name: name(name))

  defp name(name), do: Module.concat(name, "Auditor")

  @doc "How things stand; see `EventSeal.health/1`."
  @spec health(Instance.t()) :: {:ok, map} | {:error, Error.t()}
  def health(instance) do
    if audit = instance.options[:audit],
      do: {:ok, Map.put(GenServer.call(name(instance.name), :health, :infinity), :stamp, stamp(instance, audit))},
      else: {:error, Error.new(:invalid, field: :audit, rule: "must be given when the tree is started")}
  catch
    :exit, _ -> {:error, Error.new(:storage, detail: "the auditor is not running")}
  end

  defp stamp(instance, audit) do
    with {:ok, {_checkpoint, stamp}} <- Reader.reading(fn -> Kept.last(instance.store, audit[:anchors]) end),
         do: stamp,
         else: (_none -> nil)
  end

  @impl true
  def init(name) do
    instance = Instance.fetch!(name)
    # The folder that a host works in may change.
    audit = Keyword.update!(instance.options[:audit], :file, &Path.expand/1)

    case read(audit[:file]) do
      {:ok, {begun, flows, cursor}, last} ->
        run = %Verdict{next: cursor, flows: flows}
        state = %{instance: instance, audit: audit, begun: begun, run: run, last: last, faults: [], error: nil}
        {:ok, state, {:continue, :look}}

      {:error, error} ->
        {:stop, error}
    end
  end

  @impl true
  def handle_continue(:look, state), do: look(state)

  @impl true
  def handle_info(:look, state), do: look(state)
  def handle_info(_other, state), do: {:noreply, state}

  @impl true
  def handle_call(:health, _from, %{run: run} = state) do
    now = %{begun: state.begun, flows: run.flows, events: run.events, faults: run.fault_count}
    left = if state.last && state.begun, do: max(state.last.flows - run.flows, 0), else: state.last && 0
    {:reply, %{last: state.last, now: now, left: left, faults: state.faults, error: state.error}, state}
  end

  # A flow's id is a patient's, and so are faults: they do not show in crash reports.
  @doc false
  if {:format_status, 1} in GenServer.behaviour_info(:callbacks), do: @impl(true)
  def format_status(status), do: Map.replace_lazy(status, :state, &Map.take(&1, [:audit, :begun, :last, :error]))

  defp look(%{instance: instance, run: run} = state) do
    state = if state.begun, do: state, else: %{state | begun: Instance.now(instance)}

    _what_it_lacks_shows = Apart.sync(instance)

    with {:ok, verdict} <- Reader.reading(fn -> Verifier.run(instance.store, opts(state)) end),
         state = %{state | run: add(run, verdict), error: nil},
         state = found(state, verdict),
         {:ok, state} <- note(state) do
      again(state, if(verdict.next, do: 0, else: state.audit[:pause]))
    else
      {:error, error} ->
        if error != state.error,
          do: Logger.error("EventSeal #{inspect(instance.name)}: the audit waits: #{Exception.message(error)}")

        again(%{state | error: error}, @retry)
    end
  end

  # What was damaged when the store was opened is found in each part.
  defp add(run, verdict) do
    added = Verdict.add(run, verdict, @faults)
    %{added | next: verdict.next, damage: Enum.uniq(added.damage)}
  end

  defp opts(%{audit: audit, run: run} = state) do
    [for: @slice, max_faults: @faults, apart: state.instance.apart] ++
      Keyword.take(audit, [:threads, :max_rate]) ++ if(run.next, do: [after: run.next], else: [])
  end

  defp again(%{instance: %{clock: {clock, argument}}} = state, wait) do
    clock.send_after(argument, self(), :look, wait * 1_000)
    {:noreply, state}
  end

  defp found(state, verdict) do
    if Verdict.ok?(verdict) do
      state
    else
      Alarm.set(state.instance, state.run)
      named = %{name: state.instance.name, classes: verdict.faults |> Enum.map(& &1.class) |> Enum.uniq()}
      Telemetry.execute([:event_seal, :auditor, :fault], %{faults: verdict.fault_count}, named)
      %{state | faults: Enum.take(verdict.faults ++ state.faults, @faults)}
    end
  end

  # The pass goes on.
  defp note(%{run: %{next: next}} = state) when next != nil, do: with(:ok <- write(state), do: {:ok, state})

  defp note(%{run: run, instance: instance} = state) do
    if Verdict.ok?(run), do: Alarm.clear(instance)
    ended = Instance.now(instance)
    last = %{begun: state.begun, ended: ended, flows: run.flows, events: run.events, faults: run.fault_count}
    pass = Map.take(last, [:flows, :events, :faults])
    Telemetry.execute([:event_seal, :auditor, :pass], pass, %{name: instance.name})
    faults = if run.fault_count == 0, do: [], else: state.faults
    state = %{state | begun: nil, run: %Verdict{}, last: last, faults: faults}
    with :ok <- write(state), do: {:ok, state}
  end

  # The file: its form, the pass that goes on (when it began, its flows, the last one in hex), and the last whole one.

  defp write(%{audit: audit, begun: begun, run: run, last: last}) do
    path = audit[:file]
    part = path <> ".part"
    cursor = if run.next, do: Base.encode16(run.next, case: :lower), else: "-"
    whole = if last, do: Enum.map_join([:begun, :ended, :flows, :events, :faults], " ", &last[&1]), else: "-"
    text = "#{@form}\nnow #{begun || "-"} #{run.flows} #{cursor}\nlast #{whole}\n"

    with :ok <- File.write(part, ""), :ok <- File.chmod(part, 0o600), :ok <- File.write(part, text) do
      Error.posix(File.rename(part, path), path)
    else
      failed -> Error.posix(failed, part)
    end
  end

  @doc """
  How far an audit has come, by its file, beside the host that holds the store: `last` and `now` as in `EventSeal.health/1`,
  `nil` where there is none. `:not_found` if there is no file.
  """
  @spec noted(Path.t()) :: {:ok, %{last: map | nil, now: map | nil}} | {:error, Error.t()}
  def noted(path) do
    with true <- File.exists?(path),
         {:ok, {begun, flows, _cursor}, last} <- read(path) do
      {:ok, %{last: last, now: if(begun, do: %{begun: begun, flows: flows})}}
    else
      false -> {:error, Error.new(:not_found, detail: "#{path}: no note of an audit")}
      {:error, _} = error -> error
    end
  end

  defp read(path) do
    case File.read(path) do
      {:ok, text} -> parse(String.split(text, "\n"), path)
      {:error, :enoent} -> {:ok, {nil, 0, nil}, nil}
      failed -> Error.posix(failed, path)
    end
  end

  defp parse([@form, "now " <> now, "last " <> last, ""], path) do
    with [begun, flows, cursor] <- String.split(now, " "),
         {:ok, cursor} <- if(cursor == "-", do: {:ok, nil}, else: Base.decode16(cursor, case: :lower)),
         {:ok, [begun, flows]} <- integers([begun, flows]),
         {:ok, last} <- integers(String.split(last, " ")) do
      keys = [:begun, :ended, :flows, :events, :faults]
      {:ok, {begun, flows || 0, cursor}, if(last != [nil], do: keys |> Enum.zip(last) |> Map.new())}
    else
      _other -> foreign(path)
    end
  end

  defp parse(_other, path), do: foreign(path)

  defp integers(texts) do
    parsed = Enum.map(texts, &if(&1 == "-", do: {nil, ""}, else: Integer.parse(&1)))
    if Enum.all?(parsed, &match?({_, ""}, &1)), do: {:ok, Enum.map(parsed, &elem(&1, 0))}, else: :error
  end

  # Never written over: it may be another's.
  defp foreign(path), do: {:error, Error.new(:foreign, detail: "#{path}: not the note of an audit")}
end
