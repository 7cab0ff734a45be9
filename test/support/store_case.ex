defmodule EventSeal.StoreCase do
  @moduledoc false
  # Runs a store for a test, whatever its adapter, and makes the operations that the tests of stores have in common.
  # No adapter interprets the bytes, so plain texts stand for frames and blocks here.
  alias EventSeal.{Chain, Store}

  def start!({adapter, opts}) do
    name = :"store_#{System.unique_integer([:positive])}"
    spec = Supervisor.child_spec(adapter.child_spec({name, opts}), restart: :temporary)
    ExUnit.Callbacks.start_supervised!(spec)
    Store.handle(adapter, name)
  end

  def stop!(store), do: ExUnit.Callbacks.stop_supervised!(store.name)

  def put(flow, seq, stage \\ :pool), do: {:put, flow, seq, stage, "meta #{seq}", "data #{seq}"}

  def block(flow, height, first, seqs, opts \\ []) do
    count = length(seqs)

    info = %{
      height: height,
      first: first,
      count: count,
      through: Enum.max(seqs),
      when_max: 1_000 + first + count,
      euids: Enum.map_join(seqs, &euid/1),
      closes: Keyword.get(opts, :closes, false)
    }

    {:block, flow, info, ["block ", "#{height} of #{flow}, ", Keyword.get(opts, :filler, "")]}
  end

  @doc "The same with a packed container, for adapters that take blocks apart; no digest in it is right."
  def sealed(flow, height, first, seqs, opts \\ []) do
    {:block, ^flow, info, _text} = block(flow, height, first, seqs, opts)
    {:block, flow, info, packed(flow, height, first, seqs, info.closes)}
  end

  @doc "The container of `sealed/5` (FORMAT.md, \"Packed container\")."
  def packed(flow, height, first, seqs, closes \\ false) do
    {:ok, chain} = Chain.open(flow, created_at: 0, nonce: <<0::128>>)
    count = length(seqs)
    {:ok, frames} = Chain.frames(:sha256, Enum.map(seqs, &draft/1))
    {frames, bodies} = Enum.unzip(frames)
    flags = if closes, do: 1, else: 0

    header =
      <<1, 1, flags, 3, count::32, height::64, first::64, 1::64, 0::64, 0::64, 9_999::64, chain.digest::binary, 0::512,
        0::320>>

    digests = pad(for(seq <- seqs, do: :crypto.hash(:sha256, "#{seq}")))
    lengths = pad(for(frame <- frames, do: div(byte_size(frame), 64)))
    checked = IO.iodata_to_binary([chain.genesis, header, <<0::2048>>, lengths, frames, digests, digests])
    shown = IO.iodata_to_binary([pad(for(body <- bodies, do: <<div(byte_size(body), 64)::32>>)), bodies])
    verification = 64 + byte_size(checked)

    <<"EVSEALB1", verification::64, verification + byte_size(shown)::64, 0::64, height::256, checked::binary,
      shown::binary>>
  end

  defp draft(seq),
    do: {euid(seq), 1_000 + seq, 2_000 + seq, 0, "vital", 1, "ward/é", "nurse/7", <<seq::128>>, "body #{seq}"}

  defp pad(bytes) do
    bytes = IO.iodata_to_binary(bytes)
    bytes <> :binary.copy(<<0>>, rem(64 - rem(byte_size(bytes), 64), 64))
  end

  def euid(seq), do: <<0xE1D::64, seq::64>>
end
