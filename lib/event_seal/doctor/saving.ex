defmodule EventSeal.Doctor.Saving do
  @moduledoc false
  # The new store: what follows from each other goes in byte for byte, in commits of some megabytes.

  alias EventSeal.{Chain, Record, Store}
  alias EventSeal.Chain.Container

  @commit_bytes 8_388_608
  @commit_ops 4_096

  defstruct [:store, ops: [], count: 0, bytes: 0]

  @doc "Adds a flow: `examined` as `EventSeal.Doctor.Chain` has it, `spent` the euids that were retracted."
  def flow(saving, examined, spent) do
    saving = add(saving, {:open, examined.flow, examined.genesis}, 0)
    saving = spent |> Enum.with_index(1) |> Enum.reduce(saving, &spend(&1, &2, examined.flow))
    behind = length(spent)
    saving = examined.kept |> Enum.reverse() |> Enum.reduce(saving, &block(&1, &2, examined.flow, behind))
    saving = Enum.reduce(examined.entries, saving, &settled(&1, &2, examined.flow, behind))
    last = behind + last(examined)
    examined.pool |> Enum.with_index(last + 1) |> Enum.reduce(saving, &pooled(&1, &2, examined.flow))
  end

  @doc "The last settled position of what is saved of a flow."
  def last(%{entries: [_ | _] = entries}), do: List.last(entries).n
  def last(%{kept: [{piece, _} | _]}), do: piece.first + piece.count - 1
  def last(_examined), do: 0

  # An entry that comes and goes in one commit leaves only its euid, which is spent.
  defp spend({euid, seq}, saving, flow) do
    add_all(saving, [{:put, flow, seq, :pool, "", ""}, {:drop, flow, seq, euid}], 16)
  end

  defp block({piece, when_max}, saving, flow, behind) do
    {:ok, bytes} = EventSeal.Doctor.Chain.bytes(piece)
    {:ok, header} = Chain.header(bytes)

    info = %{
      height: header.height,
      first: header.first,
      count: header.count,
      through: behind + header.first + header.count - 1,
      when_max: when_max,
      euids: Container.euids(bytes),
      closes: header.closes
    }

    add(saving, {:block, flow, info, bytes}, byte_size(bytes))
  end

  defp settled(entry, saving, flow, behind) do
    meta = Record.encode_tail(entry.n, entry.frame, entry.hash, entry.provisional)
    add(saving, {:put, flow, behind + entry.n, :tail, meta, entry.body}, byte_size(meta) + byte_size(entry.body))
  end

  defp pooled({{meta, data}, seq}, saving, flow),
    do: add(saving, {:put, flow, seq, :pool, meta, data}, byte_size(meta) + byte_size(data))

  @doc "Adds items of the store-wide log."
  def log(saving, kind, items), do: Enum.reduce(items, saving, &add(&2, {kind, &1}, byte_size(&1)))

  defp add(saving, op, bytes), do: add_all(saving, [op], bytes)

  defp add_all(saving, ops, bytes) do
    saving = %{saving | ops: Enum.reverse(ops, saving.ops), count: saving.count + 1, bytes: saving.bytes + bytes}
    if saving.bytes >= @commit_bytes or saving.count >= @commit_ops, do: commit(saving), else: saving
  end

  @doc "Makes durable what was added."
  def commit(%{ops: []} = saving), do: saving

  def commit(saving) do
    with {:error, error} <- Store.commit(saving.store, Enum.reverse(saving.ops)), do: raise(error)
    %{saving | ops: [], count: 0, bytes: 0}
  end
end
