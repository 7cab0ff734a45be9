defmodule EventSeal.Store.Disk do
  @moduledoc """
  The store for one machine: plain files in one folder.

      {EventSeal, name: Clinic, store: {EventSeal.Store.Disk, dir: "data"}}

  ## Options

    * `:dir` - the folder (required). A new one is made, mode 0700; one that is not a store's, or is a newer version's, is
      refused with `:foreign`; one that another process writes to, with `:locked`
    * `:mode` - `:write` (the default) or `:read`: beside a writer, in this VM or another, the state at the time of opening;
      `:examine` is `:read` for a folder that is damaged: an identity that is gone or hit is taken from its other files
    * `:segment_bytes` - a segment that has reached this size is finished (default 268435456, at most 3 GiB)
    * `:journal_bytes` - the journal is rotated when it has reached this size (default 134217728)
    * `:archive` - a second folder, on another disk say, in which finished segments may lie; it may be mounted read-only
    * `:archive_after` - finished segments are moved there by themselves when they have not been written to for so many ms;
      the first copy is removed one such while after the second was made, at most an hour (default `:infinity`)
    * `:files` - the module through which files are touched; see `EventSeal.Segments.Files`

  ## What is durable when

  `commit` returns when everything in it was written and synced (`fdatasync`): blocks to a segment first, then all of it to
  the journal, in one group with the commits that came meanwhile. Whatever the moment of a crash:

    * before the segment's sync returned: bytes behind the segment's known length, never acknowledged, set aside on opening
    * between that and the journal's sync: the same, and a torn group at the journal's end, or a whole one whose caller had
      no answer yet. The events are in the journal as they were, unsealed, or the block is there
    * afterwards: all of it is there

  The journal never forgets what is not in a synced segment: a rotation writes the next generation beside it, syncs it,
  renames it, syncs the folder, and only then removes the old one. What was retracted or amended away is physically gone
  after the next rotation; so `rotate/1` is there to ask for one.

  ## When the disk fails

  A failed write is cut back to the last synced length, durably, and the commit returns `:storage`: nothing changed. A
  failed sync is never tried again on the same file: the segment is ended, the journal gets a new generation made of what
  was known before; then the commit returns `:storage`. If that fails too, the commit returns `:read_only` with an unknown
  outcome, and so does, with a known one, every commit after it, until the store is opened again.

  ## Damage

  A bad group at the journal's very end is what a crash leaves: it is set aside under `aside/` and reported. A bad group
  before a good one, a journal that is not whole, a segment that is missing, shorter than the journal knows, or another one,
  events that cannot be read though a rotation has to move them: the store opens for reading only, says so in the log and in
  `report/1`, and changes nothing in its folder. All that is not damaged itself can be read, whatever was lost before it or
  beside it. `EventSeal.Doctor` saves it into a new folder.

  ## Opening

  Beside a finished segment stand two files that are derived from it: `.index`, what its records are, and `.euids`, whose
  events they hold. Opening for writing reads these and the journal, so it is fast whatever has been sealed: 10 million
  events, 8 GB, in 3 to 4 s from a cold disk, with 0.5 GB of memory. Where one is lost it is made anew, one segment after
  the other, at the speed of reading them. `mode: :read` is for verifying: it reads the segments themselves.

  ## Archive

  A segment that is finished is never written again, so it may lie elsewhere. By hand: with the store stopped, move files
  from `segments/` to the folder that `:archive` names (under a host that runs: copy one under another name, rename it, and
  remove the first later). They are read there, verified there, and never changed. A segment that is in both is read in
  the archive. The derived files stay with the store.

  ## Reading

  Readers do not wait for the writer and it does not wait for them: a head is one state (a seqlock per shard, see the
  tables), blocks are ranges of segments, which never move. A store opened with `mode: :read` takes no lock; it looks again
  when a rotation of the writer has removed the journal that it had read.
  """

  @behaviour EventSeal.Store

  alias EventSeal.{Error, Segments}
  alias EventSeal.Store.Disk.{Batch, Committer, Reader, Remains}

  @defaults [mode: :write, segment_bytes: 268_435_456, journal_bytes: 134_217_728] ++
              [archive_after: :infinity, files: Segments.Files]
  @smallest 4096

  @impl EventSeal.Store
  def child_spec({name, opts}) do
    %{id: name, start: {Committer, :start_link, [name, validate(opts)]}, shutdown: 60_000}
  end

  @impl EventSeal.Store
  def commit(name, ops) when is_list(ops) do
    case Batch.pack(ops) do
      {:ok, batch} -> GenServer.call(name, {:commit, batch}, :infinity)
      {:error, :invalid} -> {:error, Error.new(:invalid, field: :ops, rule: "must be operations of EventSeal.Store")}
    end
  end

  # A torn tail is what a crash leaves, and no damage.
  @impl EventSeal.Store
  def recover(name, shards) do
    %{waiting: Reader.waiting(name, shards), damage: Enum.reject(report(name), &(&1.what == :torn_tail))}
  end

  @impl EventSeal.Store
  def head(name, flow, asked), do: Reader.head(name, flow, asked)

  @impl EventSeal.Store
  defdelegate blocks(name, flow, positions), to: Reader

  @impl EventSeal.Store
  def flows(name, after_flow, limit, :spent) do
    spent = for {flow, euids} <- remains(name).spent, flow > (after_flow || ""), do: {flow, Enum.uniq(euids)}
    {:ok, spent |> Enum.sort() |> Enum.take(limit)}
  end

  def flows(name, after_flow, limit, what), do: Reader.flows(name, after_flow, limit, what)

  @impl EventSeal.Store
  defdelegate log(name, query), to: Reader

  @impl EventSeal.Store
  def lease(_name, _shards), do: {:ok, 1}

  @doc """
  Begins a new journal now: what was retracted or amended away is gone from the folder when this returns `:ok`.

  `:read_only` if the store is, or if the new journal could not be made.
  """
  @spec rotate(EventSeal.Store.name()) :: :ok | {:error, Error.t()}
  def rotate(name), do: GenServer.call(name, :rotate, :infinity)

  @doc "What was found when the store was opened: `%{what: atom, file: name, offset: integer | nil}`, oldest first."
  @spec report(EventSeal.Store.name()) :: [EventSeal.Store.damage()]
  def report(name) do
    Reader.handle(name)
    :ets.lookup_element(name, :notes, 2)
  end

  @doc false
  # For `EventSeal.Doctor`.
  @spec remains(EventSeal.Store.name()) :: %{
          blocks: %{EventSeal.Store.flow() => [EventSeal.Store.Piece.t()]},
          spent: %{EventSeal.Store.flow() => [EventSeal.Store.euid()]}
        }
  def remains(name), do: Remains.of(name)

  defp validate(opts) do
    opts = Keyword.merge(@defaults, opts)

    for {key, value} <- opts, not valid?(key, value) do
      raise ArgumentError, "option #{inspect(key)} of EventSeal.Store.Disk is unknown or has a wrong value"
    end

    unless opts[:dir], do: raise(ArgumentError, "EventSeal.Store.Disk needs the option :dir")

    if opts[:archive_after] != :infinity and !opts[:archive],
      do: raise(ArgumentError, "option :archive_after of EventSeal.Store.Disk needs the option :archive")

    for {key, value} <- opts, do: {key, if(key in [:dir, :archive], do: Path.expand(value), else: value)}
  end

  defp valid?(key, dir) when key in [:dir, :archive], do: is_binary(dir) and dir != ""
  defp valid?(:archive_after, wait), do: wait == :infinity or (is_integer(wait) and wait >= 0)
  defp valid?(:mode, mode), do: mode in [:read, :write, :examine]
  defp valid?(:files, files), do: is_atom(files)
  defp valid?(key, bytes) when key in [:segment_bytes, :journal_bytes], do: is_integer(bytes) and bytes >= @smallest
  defp valid?(_key, _value), do: false
end
