defmodule EventSeal.Store.Disk.Committer do
  @moduledoc false
  # The one process that writes. It takes whatever commits wait in its mailbox when it becomes free, and makes one group of
  # them: one write and one sync of the journal, and before that of the segments, if there are blocks.
  #
  #   1. the steps are tried on a draft; what does not follow is refused and leaves no trace
  #   2. blocks go to the segments, synced. A crash here leaves bytes that no journal knows; the events are still in the
  #      journal, unsealed
  #   3. the group goes to the journal, synced. A crash here leaves a torn group or a whole one; nobody was answered yet
  #   4. the tables change, the callers are answered
  #
  # A failed write is cut back, durably, and the callers told. A failed sync is never tried again: a new generation is made
  # of what was known before the group, and only once it stands the callers are told that nothing changed. If it cannot be
  # made, the outcome is unknown: they are told so, and the store refuses every write until it is opened again. Opening
  # always makes a new generation: what was read, perhaps from a cache that no disk ever saw, is then written anew.
  use GenServer

  require Logger
  alias EventSeal.{Error, Native, Segments}
  alias EventSeal.Store.Disk.{Archive, Batch, Derived, Draft, Folder, Journal, Recovery, Rotation, Tables}

  @group_bytes 16_777_216
  @group_commits 4096

  def start_link(name, opts), do: GenServer.start_link(__MODULE__, {name, opts}, name: name)

  @impl GenServer
  def init({name, opts}) do
    Process.flag(:trap_exit, true)
    state = %{name: name, opts: opts, files: opts[:files], dir: opts[:dir], lock: nil, journal: nil, store_id: nil}

    state =
      Map.merge(state, %{
        tables: nil,
        segments: nil,
        refuses: nil,
        notes: [],
        rotate_at: 0,
        indexing: %{},
        archiving: nil
      })

    :ets.new(name, [:named_table, :protected, read_concurrency: true])

    case open(state, opts[:mode]) do
      {:ok, state} -> {:ok, state}
      {:error, error} -> {:stop, error}
    end
  end

  defp open(state, :read) do
    with {:ok, store_id} <- Folder.look(state.files, state.dir),
         do: load_beside(%{state | store_id: store_id, refuses: read_only("opened for reading")})
  end

  defp open(state, :examine) do
    with {:ok, store_id, notes} <- Folder.examine(state.files, state.dir),
         state = %{state | store_id: store_id, opts: Keyword.put(state.opts, :mode, :read)},
         {:ok, state} <- load_beside(%{state | refuses: read_only("opened for reading")}) do
      :ets.insert(state.name, {:notes, notes ++ state.notes})
      {:ok, state}
    end
  end

  defp open(state, :write) do
    with {:ok, store_id, lock} <- Folder.take(state.files, state.dir),
         {:ok, loaded} <- load(%{state | store_id: store_id, lock: lock}),
         {:ok, state} <- begin(loaded) do
      {:ok, archive_later(state)}
    end
  end

  defp archive_later(%{opts: opts} = state) do
    if is_integer(opts[:archive_after]), do: Process.send_after(self(), :archive, Archive.pause(opts[:archive_after]))
    %{state | archiving: nil}
  end

  # The writer may rotate while its files are read: then they are read again.
  defp load_beside(state, tries \\ 20) do
    case load(state) do
      {:ok, {state, loaded}} ->
        if tries > 0 and loaded.faults != [] and rotated?(loaded) do
          Tables.delete(loaded.tables)
          load_beside(state, tries - 1)
        else
          {:ok, show(state, loaded)}
        end

      {:error, _error} when tries > 0 ->
        Process.sleep(10)
        load_beside(state, tries - 1)

      {:error, error} ->
        {:error, error}
    end
  end

  defp rotated?(loaded) do
    {:ok, names} = with {:error, _reason} <- loaded.files.list(loaded.dir), do: {:ok, []}
    Enum.max(for(name <- names, {:ok, g} <- [Journal.generation(name)], do: g), fn -> 0 end) != loaded.generation
  end

  defp load(state) do
    case Recovery.load(state.files, state.dir, state.store_id, state.opts) do
      {:ok, loaded} -> {:ok, {state, loaded}}
      {:error, reason} -> Folder.storage({:error, reason}, "open")
    end
  end

  defp show(state, loaded) do
    :ets.insert(state.name, [{:tables, loaded.tables}, {:notes, loaded.notes}])
    %{state | tables: loaded.tables, segments: loaded.segments, notes: loaded.notes}
  end

  # A store with a fault is shown as it is, and nothing in its folder is touched.
  defp begin({state, %{faults: [fault | _]} = loaded}) do
    Logger.error("EventSeal store #{inspect(state.name)} opens for reading only: #{describe(fault)}")
    {:ok, %{show(state, loaded) | refuses: read_only("stored bytes are damaged: #{describe(fault)}")}}
  end

  defp begin({state, loaded}) do
    for note <- loaded.notes, do: Logger.warning("EventSeal store #{inspect(state.name)}: #{describe(note)}, set aside")

    with :ok <- set_aside(loaded),
         {:ok, segments} <- Segments.resume(loaded.segments),
         state = show(state, %{loaded | segments: segments}),
         {:ok, old} <- old_journal(state),
         {:ok, journal, segments} <- Rotation.run(state.tables, state.segments, old, state.store_id) do
      {:ok, started(%{state | segments: segments}, journal)}
    else
      {_failed, reason, _segments} -> Folder.storage({:error, reason}, "open")
      {:error, reason} -> Folder.storage({:error, reason}, "open")
    end
  catch
    {:unreadable, _reason} ->
      {:error, Error.new(:storage, detail: "open: the journal cannot be read")}

    {:damaged_tail, file, at} ->
      fault = %{what: :damaged_tail, file: file, offset: at}
      begin({state, %{loaded | faults: [fault], notes: loaded.notes ++ [fault]}})
  end

  defp old_journal(state) do
    case Tables.meta(state.tables, :generation) do
      0 ->
        {:ok, nil}

      generation ->
        with {:ok, fd} <- state.files.open(Journal.path(state.dir, generation), :read) do
          path = Journal.path(state.dir, generation)
          {:ok, size} = state.files.size(path)
          old = %Journal{files: state.files, dir: state.dir, generation: generation, path: path, fd: fd, marker: ""}
          {:ok, %{old | length: size}}
        end
    end
  end

  defp started(state, journal) do
    :ets.insert(state.name, [{:tables, state.tables}, {:notes, state.notes}])
    # Twice what was carried over: a large pool is not copied for every few commits.
    state = %{state | journal: journal, rotate_at: max(state.opts[:journal_bytes], 2 * journal.length)}
    index(state)
  end

  # Bytes that no journal knows of were never acknowledged; they are kept all the same.
  defp set_aside(loaded) do
    torn = loaded.journal && loaded.journal.torn
    journal = Journal.path(loaded.dir, loaded.generation)
    names = if torn, do: [{journal, torn, false}], else: []
    loose = Enum.map(loaded.loose, &loose(loaded, &1))

    Enum.reduce_while(names ++ loose, :ok, fn {path, from, cut?}, :ok ->
      case move_aside(loaded, path, from, cut?) do
        :ok -> {:cont, :ok}
        {:error, reason} -> {:halt, {:error, reason}}
      end
    end)
  end

  defp loose(loaded, {:bytes, number, from}), do: {Segments.path(Folder.segments(loaded.dir), number), from, true}
  defp loose(loaded, {:segment, number}), do: {Segments.path(Folder.segments(loaded.dir), number), :whole, true}

  defp move_aside(loaded, path, :whole, _cut?), do: loaded.files.rename(path, aside_path(loaded, path, 0))

  defp move_aside(%{files: files} = loaded, path, from, cut?) do
    with {:ok, size} <- files.size(path),
         {:ok, fd} <- files.open(path, if(cut?, do: :write, else: :read)),
         {:ok, copy} <- files.create(aside_path(loaded, path, from)),
         :ok <- Segments.Files.copy(files, fd, copy, from, size),
         :ok <- files.datasync(copy),
         :ok <- if(cut?, do: files.truncate(fd, from), else: :ok),
         :ok <- if(cut?, do: files.datasync(fd), else: :ok) do
      files.close(copy)
      files.close(fd)
    end
  end

  defp aside_path(loaded, path, from) do
    stamp = Base.encode16(:crypto.strong_rand_bytes(4), case: :lower)
    Path.join(Folder.aside(loaded.dir), "#{Path.basename(path)}-#{from}-#{stamp}")
  end

  @impl GenServer
  def handle_call({:commit, batch}, from, %{refuses: nil} = state) do
    {:noreply, state |> group(gather([{from, batch}], byte_size(batch.bytes), 1)) |> maybe_rotate()}
  end

  def handle_call({:commit, _batch}, _from, state), do: {:reply, {:error, state.refuses}, state}
  def handle_call({:run, fun}, _from, state), do: {:reply, fun.(state.tables), state}

  def handle_call(:rotate, _from, %{refuses: nil} = state) do
    case rotation(state) do
      {:ok, state} -> {:reply, :ok, state}
      {:error, state} -> {:reply, failed("rotation", :failed), state}
      {:fatal, state} -> {:reply, {:error, state.refuses}, state}
    end
  end

  def handle_call(:rotate, _from, state), do: {:reply, {:error, state.refuses}, state}

  # Of many who ask because of one rotation, the first has the files read again.
  def handle_call({:refresh, seen}, _from, state) do
    if state.tables == seen, do: refresh(state), else: {:reply, :ok, state}
  end

  defp refresh(state) do
    old = state.tables

    case load_beside(state) do
      {:ok, state} ->
        Tables.delete(old)
        {:reply, :ok, state}

      {:error, error} ->
        {:reply, {:error, error}, state}
    end
  end

  @impl GenServer
  def handle_info(:archive, %{refuses: nil, archiving: nil} = state) do
    %{files: files, opts: opts, segments: %{known: known}, tables: %{dirs: dirs}} = state
    finished = for {number, found} <- known, number != number(state.segments), do: {number, found.length}
    task = Task.async(fn -> Archive.round(files, dirs, finished, opts[:archive_after]) end)
    {:noreply, %{state | archiving: task.ref}}
  end

  def handle_info({ref, failed}, %{archiving: ref} = state) do
    Process.demonitor(ref, [:flush])

    for {number, reason} <- failed do
      Logger.warning("EventSeal store #{inspect(state.name)}: segment #{Segments.name(number)} not archived: #{reason}")
    end

    {:noreply, archive_later(state)}
  end

  # The round broke off; its process has said why.
  def handle_info({:DOWN, ref, :process, _pid, _reason}, %{archiving: ref} = state) do
    {:noreply, archive_later(state)}
  end

  def handle_info({ref, result}, state) when is_map_key(state.indexing, ref) do
    Process.demonitor(ref, [:flush])
    {:noreply, indexed(state, state.indexing[ref], result)}
  end

  def handle_info(_other, state), do: {:noreply, state}

  # Closed in order: a bad group in front of this one is damage then, not a crash's torn tail. After a failure the state
  # is that of before the callback: a group that was synced and answered since may stand where this one would be written.
  @impl GenServer
  def terminate(reason, state) do
    if orderly?(reason) and state.journal != nil and state.refuses == nil, do: Journal.append(state.journal, "E")
    if state.lock, do: Native.unlock(state.lock)
    :ok
  end

  defp orderly?({:shutdown, _}), do: true
  defp orderly?(reason), do: reason in [:normal, :shutdown]

  # The last message may be a commit, and the tables' handle is of no use to anyone: neither is shown.
  @doc false
  if {:format_status, 1} in GenServer.behaviour_info(:callbacks), do: @impl(GenServer)

  def format_status(status) do
    status
    |> Map.replace(:message, :not_shown)
    |> Map.replace_lazy(:state, &Map.take(&1, [:name, :dir, :rotate_at, :refuses]))
  end

  defp gather(waiting, size, count) when size >= @group_bytes or count >= @group_commits, do: Enum.reverse(waiting)

  defp gather(waiting, size, count) do
    receive do
      {:"$gen_call", from, {:commit, batch}} ->
        gather([{from, batch} | waiting], size + byte_size(batch.bytes), count + 1)
    after
      0 -> Enum.reverse(waiting)
    end
  end

  defp group(state, waiting) do
    start = state.journal.length + Journal.front_size() + 5
    {draft, accepted} = Enum.reduce(waiting, {Draft.new(state.tables, start), []}, &consider/2)
    if accepted == [], do: state, else: write(state, draft, Enum.reverse(accepted))
  end

  defp consider({from, batch}, {draft, accepted}) do
    case Draft.add(draft, batch) do
      {:ok, draft} ->
        {draft, [{from, batch} | accepted]}

      {:error, reason} ->
        GenServer.reply(from, {:error, Error.new(reason)})
        {draft, accepted}
    end
  end

  defp write(state, draft, accepted) do
    case Segments.append(state.segments, Draft.records(draft)) do
      {:ok, places, segments} ->
        batches = for {_from, batch} <- accepted, do: batch
        payload = ["C" | Batch.group(batches, places)]

        journal(
          %{state | segments: segments},
          state.segments,
          Journal.append(state.journal, payload),
          {draft, places, accepted}
        )

      {:error, {step, reason}, segments} ->
        answer(accepted, failed("segment #{step}", reason))
        %{state | segments: segments}
    end
  end

  defp journal(state, earlier, {:ok, journal}, {draft, places, accepted}) do
    Draft.adopt(draft, places)
    answer(accepted, :ok)
    state = %{state | journal: journal}
    if number(state.segments) == number(earlier), do: state, else: index(state)
  end

  defp journal(state, earlier, {:error, :undone, reason}, {_draft, places, accepted}) do
    answer(accepted, failed("journal write", reason))
    %{state | segments: back(state.segments, earlier, places)}
  end

  defp journal(state, earlier, {:error, :unknown, reason}, {_draft, places, accepted}) do
    # The journal may hold the group as long as there is no new one: then its blocks have to be there as well.
    segments = if places == [], do: state.segments, else: Segments.abandon(state.segments, earlier)
    state = rotate(%{state | segments: segments})

    if state.refuses do
      answer(
        accepted,
        {:error, Error.new(:read_only, detail: "journal: #{reason}; the outcome of this commit is unknown")}
      )

      state
    else
      answer(accepted, failed("journal sync", reason))
      state
    end
  end

  defp back(segments, _earlier, []), do: segments
  defp back(segments, earlier, _places), do: Segments.roll_back(segments, earlier)

  defp answer(accepted, reply), do: for({from, _batch} <- accepted, do: GenServer.reply(from, reply))

  defp maybe_rotate(%{refuses: nil} = state) do
    if state.journal.length >= state.rotate_at, do: rotate_on(state), else: state
  end

  defp maybe_rotate(state), do: state

  # The journal is sound, only long: a rotation that fails is tried again when it has grown by a quarter.
  defp rotate_on(state) do
    case rotation(state) do
      {:ok, state} -> state
      {:error, state} -> %{state | rotate_at: state.rotate_at + div(state.opts[:journal_bytes], 4)}
      {:fatal, state} -> state
    end
  end

  # The journal must not be written again.
  defp rotate(state) do
    case rotation(state) do
      {:ok, state} ->
        state

      {_failed, state} ->
        %{state | refuses: state.refuses || read_only("a sync failed, and no new journal could be made")}
    end
  end

  defp rotation(state) do
    case run_rotation(state) do
      {:ok, journal, segments} ->
        {:ok, started(%{state | segments: segments}, journal)}

      {:error, reason, segments} ->
        Logger.warning("EventSeal store #{inspect(state.name)}: no new journal: #{reason}")
        {:error, %{state | segments: segments}}

      {:fatal, reason, segments} ->
        {:fatal,
         %{state | segments: segments, refuses: read_only("a new journal could not be made durable: #{reason}")}}
    end
  end

  defp run_rotation(state) do
    Rotation.run(state.tables, state.segments, state.journal, state.store_id)
  catch
    {:unreadable, _what} -> {:error, :unreadable, state.segments}
    {:damaged_tail, file, at} -> {:error, "damaged_tail in #{file} at #{at}", state.segments}
  end

  # A finished segment gets its index and its file of fingerprints, made by a process of its own; until then these stand
  # in a table.
  defp index(state) do
    active = number(state.segments)
    open = for {number, :open, _table} <- :ets.tab2list(state.tables.segments), do: number
    Enum.reduce(open -- [active | Map.values(state.indexing)], state, &index_one(&2, &1))
  end

  defp number(%{active: nil}), do: nil
  defp number(%{active: %{number: number}}), do: number

  defp index_one(%{segments: segments, store_id: store_id} = state, number) do
    case segments.known[number] do
      nil ->
        state

      found ->
        key = {store_id, number, found.length}
        at = Tables.segment_path(state.tables, number)
        task = Task.async(fn -> Derived.make(segments.files, segments.dir, at, key, found) end)
        %{state | indexing: Map.put(state.indexing, task.ref, number)}
    end
  end

  # One that failed is not tried again before the store is opened again: the table serves as well.
  defp indexed(state, number, {:ok, prints}) do
    [{^number, :open, table}] = :ets.lookup(state.tables.segments, number)
    :ets.insert(state.tables.segments, {number, :finished, prints})
    :ets.delete(table)
    %{state | indexing: Map.reject(state.indexing, fn {_ref, other} -> other == number end)}
  end

  defp indexed(state, _number, _failed), do: state

  defp failed(doing, reason), do: {:error, Error.new(:storage, detail: "#{doing}: #{reason}")}
  defp read_only(detail), do: Error.new(:read_only, detail: detail)

  defp describe(%{what: what, file: file, offset: nil}), do: "#{what} in #{file}"
  defp describe(%{what: what, file: file, offset: offset}), do: "#{what} in #{file} at #{offset}"
end
