defmodule EventSeal do
  @moduledoc """
  Event flows that cannot be changed unnoticed.

  A tree in the host's supervision tree:

      {EventSeal, name: Clinic, store: {EventSeal.Store.Disk, dir: "data"}, suite: :sha256,
       pool_window: :timer.minutes(5), block: [max_events: 4096, max_bytes: 8_388_608, max_age: :timer.seconds(60)]}

  and the verbs by its name:

      iex> {:ok, _} = EventSeal.start_link(name: Ward, store: EventSeal.Store.Memory, pool_window: 0)
      iex> event = %{when: ~U[2026-03-01 08:30:00Z], where: {:place, "ward-3"}, who: "nurse/7", kind: "vital", body: "37.2"}
      iex> {:ok, receipt} = EventSeal.append(Ward, "patient/42", event)
      iex> {:ok, _} = EventSeal.append_many(Ward, for(at <- 1..3, do: {"patient/42", %{when: at, kind: "vital"}}))
      iex> EventSeal.seal(Ward, "patient/42")
      {:ok, 1}
      iex> {:ok, first} = EventSeal.event(Ward, "patient/42", receipt.euid)
      iex> {first.n, first.stage, first.body}
      {1, :fixed, "37.2"}
      iex> for event <- EventSeal.stream(Ward, "patient/42"), do: {event.n, event.stage, event.late}
      [{1, :fixed, false}, {2, :sandbox, true}, {3, :sandbox, true}, {4, :sandbox, true}]

  An event appears in the **pool**, where it can be amended or retracted until `:pool_window` is over. Then it enters the
  **sandbox**: it has its position and a provisional id. When three events stand behind it, it can be **fixed**: sealed in
  a block with its final id.

  What a verb acknowledges is durable. Expected failures come back as `{:error, %EventSeal.Error{}}`; a wrong option raises
  `ArgumentError`. No verb exits because a process of the tree died: the error is then `:storage`, or `:timeout`, and what
  was asked may have been done or not. An `:euid` of the caller's own makes it safe to ask again.

  ## Options

  #{EventSeal.Options.docs(:start)}
  """
  use Supervisor

  alias EventSeal.{
    Alarm,
    Apart,
    Archive,
    Auditor,
    Await,
    Checkpoint,
    Error,
    Event,
    Instance,
    Log,
    Native,
    Options,
    Proof,
    Reader,
    Receipt,
    Stamp,
    Telemetry
  }

  alias EventSeal.{Verdict, Verifier, Writer}

  @close "$close"

  @typedoc "The `:name` an EventSeal was started with."
  @type name :: atom
  @type flow :: String.t()
  @type euid :: <<_::128>>
  @type event :: Event.t() | map | keyword

  @doc "Starts a tree; the options stand above."
  @spec start_link(keyword) :: Supervisor.on_start()
  def start_link(opts) do
    opts = Options.start!(opts)
    Supervisor.start_link(__MODULE__, opts, name: opts[:name])
  end

  @doc false
  @spec child_spec(keyword) :: Supervisor.child_spec()
  def child_spec(opts) do
    %{id: {__MODULE__, opts[:name]}, start: {__MODULE__, :start_link, [opts]}, type: :supervisor}
  end

  @impl true
  def init(opts) do
    Telemetry.load()
    {module, store_opts} = opts[:store]
    name = opts[:name]
    writers = for index <- 0..(writers(opts) - 1), do: {Writer, {name, index}}

    children = [
      module.child_spec({Instance.store_name(name), store_opts}),
      {Instance, Keyword.put(opts, :writers, writers(opts))},
      %{
        id: Writer,
        type: :supervisor,
        start: {Supervisor, :start_link, [writers, [strategy: :one_for_one, max_restarts: 100]]}
      }
    ]

    log = if opts[:checkpoints], do: [{EventSeal.Log, name}], else: []
    apart = if opts[:verification], do: [{Apart, name}], else: []
    auditor = if opts[:audit], do: [{Auditor, name}], else: []

    # What stands on a process that died starts again with it: a store's handle, a writer's state. The log signs only while
    # there is somebody who brings what it signs to the verification store.
    Supervisor.init(children ++ apart ++ log ++ auditor, strategy: :rest_for_one)
  end

  @doc """
  Appends an event (`EventSeal.Event` says what it holds) to a flow, which begins with its first event.

      {:ok, %EventSeal.Receipt{flow: …, euid: …, recorded_at: …, revision: 0}}

  With the option `receipts:` the receipt is a signed promise, here and wherever else one is returned (`EventSeal.Receipt`).
  It is so once the event is durable: a signer that fails makes no append fail, the receipt says then that it is not signed.

  Options:

  #{Options.docs(:append)}

  The same euid again, with the same fields, gets the same receipt, whatever has become of the event; with other fields
  `:conflict`; and `:retracted` if it was. Further errors: `:invalid`, `:count`, `:closed`, `:overloaded`, `:storage`,
  `:read_only`, `:timeout`.
  """
  @spec append(name, flow, event, keyword) :: {:ok, Receipt.t()} | {:error, Error.t()}
  def append(name, flow, event, opts \\ []) do
    verb(name, :append, flow, fn instance ->
      with {:ok, flow, draft, expect} <- item(instance, {flow, event, opts}) do
        Writer.ask(instance, flow, {:append, flow, draft, expect})
      end
    end)
  end

  @doc "`append/4`, but returns the receipt, and raises `EventSeal.Error`."
  @spec append!(name, flow, event, keyword) :: Receipt.t()
  def append!(name, flow, event, opts \\ []), do: name |> append(flow, event, opts) |> bang!()

  @doc """
  Appends events to any flows in one durable commit: all or none. Items are `{flow, event}` or `{flow, event, opts}` with
  `append/4`'s options. Returns the receipts in the order of the items, or the error of an item that was refused. A list
  longer than the queue's `:max_events` is `:overloaded` always.
  """
  @spec append_many(name, [{flow, event} | {flow, event, keyword}]) :: {:ok, [Receipt.t()]} | {:error, Error.t()}
  def append_many(name, items) do
    unless is_list(items) and not List.improper?(items),
      do: raise(ArgumentError, "items must be a list, got #{Event.type(items)}")

    verb(name, :append_many, nil, fn instance ->
      with {:ok, items} <- items(instance, items), do: append_items(instance, items)
    end)
  end

  @doc """
  Changes an event that is still in the pool; `changes` are some of an event's fields. It keeps its place and its deadline,
  and gets a new salt and the next revision. Returns a receipt with that revision.

  Options:

  #{Options.docs(:change)}

  Errors: `:settled` (too late), `:retracted`, `:revision`, `:not_found`, `:invalid`, and those of a store.
  """
  @spec amend(name, flow, euid, map | keyword, keyword) :: {:ok, Receipt.t()} | {:error, Error.t()}
  def amend(name, flow, euid, changes, opts \\ []) do
    opts = Options.check!(opts, :change)

    verb(name, :amend, flow, fn instance ->
      with {:ok, flow} <- Event.check_flow(flow),
           {:ok, euid} <- check_euid(euid),
           {:ok, changes} <- changes(instance, changes) do
        Writer.ask(instance, flow, {:amend, flow, euid, changes, opts[:revision]})
      end
    end)
  end

  @doc """
  Takes an event out of the pool, as if it had never been. Its euid is spent: an append of it gets `:retracted`. Options
  and errors as `amend/5`.
  """
  @spec retract(name, flow, euid, keyword) :: {:ok, Receipt.t()} | {:error, Error.t()}
  def retract(name, flow, euid, opts \\ []) do
    opts = Options.check!(opts, :change)

    verb(name, :retract, flow, fn instance ->
      with {:ok, flow} <- Event.check_flow(flow), {:ok, euid} <- check_euid(euid) do
        Writer.ask(instance, flow, {:retract, flow, euid, opts[:revision]})
      end
    end)
  end

  @doc "Moves a flow's whole pool on into the sandbox at once. Returns how many events settled."
  @spec settle(name, flow) :: {:ok, non_neg_integer} | {:error, Error.t()}
  def settle(name, flow), do: finish(name, :settle, flow)

  @doc """
  Seals at once what has three events behind it, without waiting for a useful block. Returns how many events were fixed; 0
  if there was nothing to seal. The pool stays as it is.
  """
  @spec seal(name, flow) :: {:ok, non_neg_integer} | {:error, Error.t()}
  def seal(name, flow), do: finish(name, :seal, flow)

  @doc """
  Ends a flow: what is in the pool settles, a last event of kind `$close` takes its position, and all of it is fixed, in
  one commit. Nothing can be appended after it (`:closed`).

  Returns the receipt of the closing event; again with the same `:euid` and fields, the same receipt. Options:

  #{Options.docs(:close)}

  Errors: `:closed`, `:not_found`, `:count`, `:invalid`, and those of a store.
  """
  @spec close(name, flow, keyword) :: {:ok, Receipt.t()} | {:error, Error.t()}
  def close(name, flow, opts \\ []) do
    opts = Options.check!(opts, :close)

    verb(name, :close, flow, fn instance ->
      with {:ok, flow} <- Event.check_flow(flow), {:ok, draft} <- closing(instance, opts) do
        Writer.ask(instance, flow, {:close, flow, draft, opts[:expect]})
      end
    end)
  end

  @doc """
  Waits until an event is fixed and returns it, with its `id`.

  Options:

  #{Options.docs(:await)}

  Errors: `:timeout`, and `:not_found` if there is no such event, or if it was retracted meanwhile.
  """
  @spec await_fixed(name, flow, euid, keyword) :: {:ok, Event.t()} | {:error, Error.t()}
  def await_fixed(name, flow, euid, opts \\ []) do
    opts = Options.check!(opts, :await)

    verb(name, :await_fixed, flow, fn instance ->
      with {:ok, flow} <- Event.check_flow(flow), {:ok, euid} <- check_euid(euid) do
        Await.fixed(instance, flow, euid, opts[:timeout])
      end
    end)
  end

  @doc "One event, by its euid (16 bytes) or its position, in whatever stage it is. Errors: `:not_found`, a store's."
  @spec event(name, flow, euid | pos_integer) :: {:ok, Event.t()} | {:error, Error.t()}
  def event(name, flow, euid_or_position) do
    verb(name, :event, flow, fn instance ->
      with {:ok, flow} <- Event.check_flow(flow), {:ok, which} <- check_reference(euid_or_position) do
        Reader.event(instance.store, flow, which)
      end
    end)
  end

  @doc """
  A flow's events in their order, lazily, each with its stage: what is fixed, then the sandbox, then the pool, as they
  stand when the stream is run.

  Options:

  #{Options.docs(:stream)}

  Running it raises `EventSeal.Error`: `:not_found` for an unknown flow, or what the store answers.
  """
  @spec stream(name, flow, keyword) :: Enumerable.t()
  def stream(name, flow, opts \\ []) do
    opts = Options.check!(opts, :stream)
    verb(name, :stream, flow, fn instance -> Reader.stream(instance.store, check_flow!(flow), opts) end)
  end

  @doc """
  A flow as a whole: `flow`, `suite`, `created_at` (µs), `genesis` (G), `accepted` (what `expect:` is compared with), `pool`
  (events in it), `settled` and `fixed` (last positions), `blocks`, `block_hash` (of the last one, or nil), `provisional` (id
  of the last settled event, if it is not fixed), `closed`.
  """
  @spec head(name, flow) :: {:ok, map} | {:error, Error.t()}
  def head(name, flow) do
    verb(name, :head, flow, fn instance ->
      with {:ok, flow} <- Event.check_flow(flow), do: Reader.head(instance.store, flow)
    end)
  end

  @doc """
  The ids of all flows, lazily, in byte order. Options:

  #{Options.docs(:flows)}
  """
  @spec flows(name, keyword) :: Enumerable.t()
  def flows(name, opts \\ []) do
    opts = Options.check!(opts, :flows)
    verb(name, :flows, nil, fn instance -> Reader.flows(instance.store, opts) end)
  end

  @doc """
  Verifies what is stored, all of it or one flow, on all cores, while appends go on. Everything is recomputed from the
  stored bytes.

      {:ok, %EventSeal.Verdict{faults: [], …}}

  Options:

  #{Options.docs(:verify)}

  A whole store that is verified at once is held against its log as well: each block and each end of a flow against its leaf,
  each leaf against what is stored, and the log against its last checkpoint. The verdict says how many events that covers,
  `coverage/2` up to where it does in a flow. Whoever can write everywhere can write all of that anew: only `checkpoint:`, with
  one that was kept where they cannot, shows it. One that cannot be believed is `:untrusted`, and no verdict. Where a
  checkpoint was stamped by a time-stamp authority (`add_stamp/4`), the verdict says before which time it existed; `anchors:`
  names the authorities that are believed.

  What a checkpoint covers that was verified before need not be verified again: `since: checkpoint, key: key` compares the log
  with it, and looks only at what came later, with the block before that, and whether all that it covers is still there. How
  many events it did not look at is the verdict's `unseen`: what was changed in them it does not find. Where the log is not what
  the checkpoint says, or less of a flow is there, all is looked at.

  A whole store need not be verified at once: `for: 200` stops after that time, and `after: verdict.next` goes on from there,
  tomorrow if need be, until `next` is nil. A flow is never left half done.

  One that runs all day beside other work is held to a budget: `max_rate: {20_000, :events}` or `{50_000_000, :bytes}` a
  second, over all its threads and from its beginning to its end. A block is read and hashed at a stretch and then paid
  for, so the rate holds over the time that a few blocks take (4,096 events each, if they are full), not over every
  millisecond. What was left unused for longer than a second is not made up for. Reading heads and laying out what is
  unsealed is not counted; it is done for about a second's share at a time.

  It ends at once, within 50 ms, when its `progress` returns `:cancel` (the answer is `{:error, %{reason: :cancelled}}`), and
  when the process that called it ends. So one that others shall be able to stop runs in a task, which is shut down:

      task = Task.async(fn -> EventSeal.verify(Clinic, max_rate: {20_000, :events}) end)
      Task.shutdown(task, :brutal_kill)

  Where there is a verification store (option `:verification`), what it keeps is compared with what is verified, flow by flow, and at
  the end of the whole the log and the checkpoints. A fault found so has a `side`: which of the two stores is wrong
  (`EventSeal.Fault`, "Two stores").

  In a database (`EventSeal.Store.Postgres`) rows that belong to no flow, block or log are faults, too, and so is what was taken away
  of what refuses change; each fault names the table and the row where it lies.

  Faults are in the verdict, not an error, and so is damage to the files. If there is any, the alarm `{EventSeal, name}` is set (`:alarm_handler`, where
  `sasl` runs); a verification of the whole store that finds none clears it.
  """
  @spec verify(name, keyword) :: {:ok, Verdict.t()} | {:error, Error.t()}
  def verify(name, opts \\ []) do
    opts = Options.check!(opts, :verify)

    # A position since which to verify is one of a flow, a checkpoint one of the whole store.
    {of_flow, of_store} = if is_binary(opts[:since]), do: {[:range], [:since]}, else: {[:range, :since], []}

    for key <- of_flow, opts[key] && is_nil(opts[:flow]) do
      raise ArgumentError, "option #{inspect(key)} needs the option :flow"
    end

    if Keyword.take(opts, [:checkpoint | of_store]) == [] != is_nil(opts[:key]) do
      raise ArgumentError, "a checkpoint, given as :checkpoint or as :since, and the option :key need each other"
    end

    whole =
      [flow: :head] ++ for part <- [:flow, :after, :for], other <- [:checkpoint, :anchors | of_store], do: {part, other}

    apart = [range: :since, flow: :after, flow: :for] ++ for other <- of_store, do: {:checkpoint, other}

    for {key, other} <- apart ++ whole, opts[key] && opts[other] do
      raise ArgumentError, "options #{inspect(key)} and #{inspect(other)} do not go together"
    end

    verb(name, :verify, opts[:flow], fn instance ->
      _what_it_lacks_shows = Apart.sync(instance)

      with {:ok, _} <- if(Keyword.has_key?(opts, :flow), do: Event.check_flow(opts[:flow]), else: {:ok, nil}),
           {:ok, verdict} <- Reader.reading(fn -> Verifier.run(instance.store, [apart: instance.apart] ++ opts) end) do
        alarm(instance, verdict, opts)
        {:ok, verdict}
      end
    end)
  end

  @doc """
  How the audit stands (option `:audit`), with times in µs of the store's clock:

    * `last` - the last whole pass: `%{begun:, ended:, flows:, events:, faults:}`; nil before the first
    * `now` - the pass that goes on: `%{begun:, flows:, events:, faults:}`, `events` since the tree was started
    * `left` - about how many flows it has yet to look at; nil while that is not known
    * `faults` - the last `EventSeal.Fault`s, up to 100, newest first; none after a pass that found none
    * `stamp` - of the newest checkpoint with a time stamp that holds, an `EventSeal.Stamp`, or nil; with the audit's `:anchors`
      only such a one as leads to them
    * `error` - why it waits, an `EventSeal.Error`, or nil
    * `verification` - how the verification store stands, if there is one (option `:verification`): `leaves` of the log that it
      has, `behind` (how many more the events' store has), `since` when it is behind (the clock's monotonic time, µs; nil if it is
      not), `error` (why it does not follow, an `EventSeal.Error`, or nil)

  Without `:audit` there is only `verification`; `:invalid` without either.
  """
  @spec health(name) :: {:ok, map} | {:error, Error.t()}
  def health(name), do: verb(name, :health, nil, &health_of/1)

  defp health_of(%{apart: nil} = instance), do: Auditor.health(instance)

  defp health_of(instance) do
    kept = %{verification: Apart.health(instance)}

    if instance.options[:audit],
      do: with({:ok, health} <- Auditor.health(instance), do: {:ok, Map.merge(health, kept)}),
      else: {:ok, kept}
  end

  @doc """
  Signs a checkpoint of the store-wide log now: whatever is sealed or settled is covered by it. If nothing has changed since
  the last one, that is returned again. Keep its `note` where whoever can write to the store cannot.

  Errors: `:invalid` without the option `:checkpoints`; `:corrupt` if the stored log is not what was signed before; what the
  signer answers; a store's.
  """
  @spec checkpoint(name) :: {:ok, Checkpoint.t()} | {:error, Error.t()}
  def checkpoint(name), do: verb(name, :checkpoint, nil, &Log.checkpoint/1)

  @doc """
  What a witness is to be asked (`EventSeal.Witness`, or any other of C2SP tlog-witness): that the last checkpoint extends
  the one of `size`, which the witness cosigned last; 0 if it knows none.
  """
  @spec witness_request(name, non_neg_integer) :: {:ok, String.t()} | {:error, Error.t()}
  def witness_request(name, size) do
    verb(name, :witness_request, nil, fn instance ->
      with {:ok, tree, checkpoint} <- Log.tree(instance),
           {:ok, checkpoint} <- signed(checkpoint),
           {:ok, path} <- Log.Tree.consistency(tree, instance.store, size, checkpoint.size),
           do: {:ok, Native.witness_request(size, path, checkpoint.note)}
    end)
  end

  @doc """
  Adds witnesses' signature lines to the last checkpoint, which is kept with them from then on. Options: `:witnesses`
  (required: the verifier keys of those that are trusted) and `:quorum` (how many must have signed; 1 unless given).

  `:untrusted` if a line of theirs does not hold; lines of others are kept as they are, and count for nothing.
  """
  @spec add_cosignatures(name, String.t(), keyword) :: {:ok, Checkpoint.t()} | {:error, Error.t()}
  def add_cosignatures(name, lines, policy) do
    verb(name, :add_cosignatures, nil, &Log.add_cosignatures(&1, lines, policy))
  end

  @doc """
  What a time-stamp authority is to be asked (RFC 3161): the TimeStampReq, DER, for the last checkpoint. It is what an
  authority takes by HTTP as `application/timestamp-query`, or `openssl ts -reply` from a file. Keep it: `add_stamp/4` needs it.

  Options:

  #{Options.docs(:stamp)}

  Errors: `:not_found` if there is no such checkpoint; `:invalid`, without the option `:checkpoints` too; a store's.
  """
  @spec stamp_request(name, keyword) :: {:ok, binary} | {:error, Error.t()}
  def stamp_request(name, opts \\ []) do
    opts = Options.check!(opts, :stamp)
    verb(name, :stamp_request, nil, &Log.stamp_request(&1, opts))
  end

  @doc """
  Checks an authority's answer to `stamp_request/2`, a TimeStampResp, and keeps it with the checkpoint that it is of
  (`EventSeal.Stamp`): it goes with its note from then on. `verify/2` and `health/1` show it.

  Options:

  #{Options.docs(:add_stamp)}

  Errors: `:untrusted` if the authority has not granted it, if it is no answer to this request, or is not to be believed;
  `:malformed`; `:not_found` if there is no checkpoint that the request is of; `:invalid`; a store's.
  """
  @spec add_stamp(name, binary, binary, keyword) :: {:ok, Stamp.t()} | {:error, Error.t()}
  def add_stamp(name, request, response, opts) do
    opts = Options.check!(opts, :add_stamp)
    verb(name, :add_stamp, nil, &Log.add_stamp(&1, request, response, opts[:anchors]))
  end

  @doc """
  How far the last checkpoint covers a flow: `{:ok, %{n: last settled position, covered: position, checkpoint: size}}`.
  Whoever keeps that checkpoint elsewhere can show later that everything up to `covered` was there, as it was. `checkpoint`
  is nil, and `covered` 0, if none was signed yet.

  Errors: `:not_found`; `:invalid` without the option `:checkpoints`; a store's.
  """
  @spec coverage(name, flow) ::
          {:ok, %{n: non_neg_integer, covered: non_neg_integer, checkpoint: non_neg_integer | nil}}
          | {:error, Error.t()}
  def coverage(name, flow) do
    verb(name, :coverage, flow, fn instance ->
      with {:ok, flow} <- Event.check_flow(flow), do: Reader.reading(fn -> Log.coverage(instance, flow) end)
    end)
  end

  @doc """
  The proof that an event stands at its position: a text that whoever has the log's verifier key can check alone, with
  `EventSeal.Proof.verify/2` or `event-seal verify`, without this store and without trusting whoever runs it. The event must
  be fixed, and its block covered by a checkpoint.

  Options:

  #{Options.docs(:prove)}

  Errors: `:not_found` if no event is fixed at the position, or no checkpoint covers it yet; `:corrupt` if what is stored
  does not lead to the checkpoint; `:invalid` without the option `:checkpoints`; a store's.
  """
  @spec prove(name, flow, pos_integer, keyword) :: {:ok, String.t()} | {:error, Error.t()}
  def prove(name, flow, n, opts \\ []) do
    opts = Options.check!(opts, :prove)

    verb(name, :prove, flow, fn instance ->
      with {:ok, flow} <- Event.check_flow(flow),
           {:ok, n} <- check_position(n),
           {:ok, tree, checkpoint} <- Log.tree(instance),
           {:ok, checkpoint} <- signed(checkpoint),
           do: Reader.reading(fn -> Proof.make(instance.store, tree, checkpoint, flow, n, opts[:disclose]) end)
    end)
  end

  @doc """
  A flow, or a part of it, for somebody else: an archive (`EventSeal.Archive`) in which only some bodies show. Of the others
  nothing is there but their commitments. It holds whole blocks, from the first to the last that has any of the events asked
  for; and where no end was asked for, the tail, of which a checkpoint covers the first three events at most. `event-seal verify` checks it.

  Options:

  #{Options.docs(:packet)}

  Errors: `:not_found` if no such event is settled; `:corrupt`, or what the store answers. Without a checkpoint that covers
  one of the blocks the archive has no proof.
  """
  @spec packet(name, flow, keyword) :: {:ok, binary} | {:error, Error.t()}
  def packet(name, flow, opts \\ []) do
    opts = Options.check!(opts, :packet)

    verb(name, :packet, flow, fn instance ->
      with {:ok, flow} <- Event.check_flow(flow),
           do: Reader.reading(fn -> Archive.packet(instance.store, flow, opts) end)
    end)
  end

  defp signed(nil), do: {:error, Error.new(:not_found, detail: "no checkpoint was signed yet")}
  defp signed(checkpoint), do: {:ok, checkpoint}

  defp alarm(instance, verdict, opts) do
    cond do
      not Verdict.ok?(verdict) -> Alarm.set(instance, verdict)
      opts[:flow] || opts[:after] || opts[:since] || verdict.next -> :ok
      true -> Alarm.clear(instance)
    end
  end

  defp verb(name, verb, flow, fun) do
    instance = Instance.fetch!(name)
    Telemetry.span([:event_seal, verb], %{name: name, flow: flow}, fn -> fun.(instance) end)
  end

  defp finish(name, what, flow) do
    verb(name, what, flow, fn instance ->
      with {:ok, flow} <- Event.check_flow(flow), do: Writer.ask(instance, flow, {what, flow})
    end)
  end

  defp item(instance, {flow, event}), do: item(instance, {flow, event, []})

  defp item(instance, {flow, event, opts}) do
    opts = if opts == [], do: [], else: Options.check!(opts, :append)

    with {:ok, flow} <- Event.check_flow(flow),
         {:ok, draft} <- Event.draft(event, euid: opts[:euid], max_body: instance.options[:max_body]) do
      {:ok, flow, draft, opts[:expect]}
    end
  end

  defp item(_instance, other) do
    raise ArgumentError, "an item must be {flow, event} or {flow, event, options}, got #{Event.type(other)}"
  end

  defp items(instance, items) do
    Enum.reduce_while(items, {:ok, []}, fn item, {:ok, taken} ->
      case item(instance, item) do
        {:ok, flow, draft, expect} -> {:cont, {:ok, [{flow, draft, expect} | taken]}}
        {:error, error} -> {:halt, {:error, %{error | detail: "item #{length(taken) + 1}"}}}
      end
    end)
    |> then(fn {outcome, taken} -> {outcome, if(outcome == :ok, do: Enum.reverse(taken), else: taken)} end)
  end

  defp append_items(_instance, []), do: {:ok, []}

  # The same event twice in a list is one event, as it would be in two calls.
  defp append_items(instance, items) do
    keyed = Enum.with_index(items, fn {flow, draft, _} = item, index -> {{flow, elem(draft, 0) || index}, item} end)
    single = Enum.uniq_by(keyed, &elem(&1, 0))

    if length(single) == length(keyed),
      do: Writer.append_many(instance, items),
      else: append_doubled(instance, keyed, single)
  end

  defp append_doubled(instance, keyed, single) do
    drafts = Map.new(single, fn {key, {_flow, draft, _expect}} -> {key, draft} end)

    with true <- Enum.all?(keyed, fn {key, {_flow, draft, _expect}} -> drafts[key] == draft end),
         {:ok, receipts} <- Writer.append_many(instance, Enum.map(single, &elem(&1, 1))) do
      receipts = single |> Enum.map(&elem(&1, 0)) |> Enum.zip(receipts) |> Map.new()
      {:ok, Enum.map(keyed, fn {key, _} -> receipts[key] end)}
    else
      false -> {:error, Error.new(:conflict)}
      {:error, error} -> {:error, error}
    end
  end

  # Where an event's fields stand in a draft.
  @places %{when: 1, kind: 4, version: 5, where: 6, who: 7, body: 9}

  defp changes(instance, %{} = changes) when not is_struct(changes) do
    with {:ok, draft} <-
           Event.draft(Map.merge(%{when: 0, kind: "change"}, changes), max_body: instance.options[:max_body]) do
      {:ok, for({field, _} <- changes, do: {@places[field], elem(draft, @places[field])})}
    end
  end

  defp changes(instance, changes) do
    if Keyword.keyword?(changes), do: changes(instance, Map.new(changes)), else: bad_changes(changes)
  end

  defp bad_changes(changes) do
    rule = "must be a map or keyword list of an event's fields, got #{Event.type(changes)}"
    {:error, Error.new(:invalid, field: :event, rule: rule)}
  end

  # A `when` that was not given stays nil: the writer knows what now is.
  defp closing(instance, opts) do
    fields = opts |> Keyword.take([:when, :where, :who, :body]) |> Map.new() |> Map.put(:kind, @close)
    given = [euid: opts[:euid], library: true, max_body: instance.options[:max_body]]

    with {:ok, draft} <- Event.draft(Map.put_new(fields, :when, 0), given) do
      {:ok, if(Keyword.has_key?(opts, :when), do: draft, else: put_elem(draft, 1, nil))}
    end
  end

  defp check_euid(<<_::128>> = euid), do: {:ok, euid}

  defp check_euid(other),
    do: {:error, Error.new(:invalid, field: :euid, rule: "must be 16 bytes, got #{Event.type(other)}")}

  defp check_reference(n) when is_integer(n), do: check_position(n)
  defp check_reference(euid), do: check_euid(euid)

  defp check_position(n) when is_integer(n) and n > 0, do: {:ok, n}
  defp check_position(n) when is_integer(n), do: {:error, Error.new(:not_found)}
  defp check_position(other), do: raise(ArgumentError, "a position must be an integer, got #{Event.type(other)}")

  defp check_flow!(flow), do: flow |> Event.check_flow() |> bang!()

  defp bang!({:ok, value}), do: value
  defp bang!({:error, error}), do: raise(error)

  defp writers(opts), do: opts[:writers] || 2 * System.schedulers_online()
end
