defmodule EventSeal.Chain.Provisional do
  @moduledoc false
  # The provisional ids that the events of a block had before it sealed them, from what the block records: FORMAT.md, "Provisional ids".

  alias EventSeal.{Chain, Error, Hash}

  @context "event-seal/1 provisional"

  @doc "One for each event of the block, in order."
  @spec of(Chain.container()) :: {:ok, [<<_::256>>]} | {:error, Error.t()}
  def of(block) do
    with {:ok, header} <- Chain.header(block),
         {:ok, events} <- Chain.events(block),
         {:ok, chain} <- Chain.restore(header.genesis, nil, nil, []) do
      <<ids::binary-96, hashes::binary-64>> = IO.iodata_to_binary(header.before)
      ids = [ids | Enum.map(events, & &1.id)] |> IO.iodata_to_binary()
      hashes = [hashes | Enum.map(events, & &1.hash)] |> IO.iodata_to_binary()

      inputs =
        for i <- 0..(length(events) - 1) do
          [chain.digest, digests(ids, i, 1), digests(hashes, i, 3), <<header.first + i::64, 0::192>>]
        end

      {:ok, hash(header.suite, inputs)}
    end
  end

  defp digests(binary, from, count), do: binary_part(binary, 32 * from, 32 * count)

  defp hash(:sha256, inputs) do
    tag = Hash.hash(@context)
    Hash.hash_all(Enum.map(inputs, &[tag, tag, &1]))
  end

  defp hash(:blake3, inputs), do: Hash.hash_all(inputs, {:blake3, :derive_key, @context})
end
