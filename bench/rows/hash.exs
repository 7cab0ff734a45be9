defmodule Bench.Rows.Hash do
  @moduledoc false
  # `EventSeal.Hash`, one input at a time and a list at once, beside `:crypto` and the Rust crates alone: bytes a second, on
  # one core.

  alias Bench.{Core, Peer, Peers, Samples}
  alias EventSeal.Hash

  @sizes [{"64", 64}, {"256", 256}, {"1k", 1024}, {"16k", 16_384}, {"1m", 1_048_576}]
  # Bytes that are hashed between two looks at the clock.
  @turn 65_536

  @doc "The sizes by their names in the rows."
  @spec sizes :: [{String.t(), pos_integer}]
  def sizes, do: @sizes

  @spec groups(map) :: [{[String.t()], (() -> [Samples.result()])}]
  def groups(options) do
    for suite <- [:sha256, :blake3], {name, bytes} <- @sizes do
      row = "hash_#{suite}_#{name}"
      {[row], fn -> compare(row, suite, bytes, options) end}
    end
  end

  defp compare(row, suite, bytes, options) do
    input = Bench.Store.body(bytes)
    list = List.duplicate(input, max(div(@turn, bytes), 16))

    Peers.run(
      options,
      [{:crate, Core, fn -> Core.start("crates", [to_string(suite), to_string(bytes)]) end}],
      fn peers ->
        Samples.take(
          [
            {[{row, "event_seal"}], fn -> speed(input, options, &Hash.hash(&1, suite)) end},
            {[{row, "event_seal_list"}], fn -> speed(list, options, &Hash.hash_all(&1, suite)) end},
            {[{row, "crypto_#{nearest(suite)}"}], fn -> speed(input, options, &:crypto.hash(nearest(suite), &1)) end}
          ] ++ Peers.contender(peers, :crate, [{row, crate(suite)}], &Peer.ask/1),
          options.samples
        )
      end
    )
  end

  # OTP has no BLAKE3; BLAKE2b is the nearest that it has.
  defp nearest(:sha256), do: :sha256
  defp nearest(:blake3), do: :blake2b

  defp crate(:sha256), do: "sha2"
  defp crate(:blake3), do: "blake3"

  # For a fifteenth of the time that a sample of appending takes.
  defp speed(input, options, hash) do
    turns = 1..max(div(@turn, IO.iodata_length(input)), 1)
    started = System.monotonic_time(:nanosecond)
    stop = started + round(options.seconds / 15 * 1_000_000_000)
    hash(input, hash, turns, stop, 0) * 1_000_000_000 / (System.monotonic_time(:nanosecond) - started)
  end

  defp hash(input, hash, turns, stop, hashed) do
    for _ <- turns, do: hash.(input)
    hashed = hashed + Enum.count(turns) * IO.iodata_length(input)
    if System.monotonic_time(:nanosecond) < stop, do: hash(input, hash, turns, stop, hashed), else: hashed
  end
end
