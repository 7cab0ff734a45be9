defmodule EventSeal.LargeBlocksTest do
  # Blocks of long bodies, or of very many events, are checked in parts that are small enough to be stopped between: the
  # verdict is that of the whole.
  use ExUnit.Case, async: true

  alias EventSeal.{Chain, Event, Verdict}

  @mebibyte 1_048_576

  for suite <- [:sha256, :blake3] do
    test "a changed byte of a long body is found, wherever it stands (#{suite})" do
      bodies = for {size, fill} <- [{17, "a"}, {9, "b"}, {9, "c"}, {0, "d"}], do: body(size * @mebibyte, fill)
      {block, tail} = sealed(unquote(suite), bodies ++ List.duplicate("after", 3), 4)
      assert %Verdict{fixed: 4, bodies_verified: 7, fault_count: 0} = Chain.verify([block, tail], bodies: true)

      for {body, position} <- Enum.with_index(bodies, 1), at <- [0, byte_size(body) - 1] do
        {start, _} = :binary.match(block, binary_part(body, 0, 64))

        assert %Verdict{faults: [%{position: ^position, class: :commitment}]} =
                 Chain.verify([flip(block, start + at), tail])
      end
    end

    test "the root over very many ids is that of one tree (#{suite})" do
      {block, tail} = sealed(unquote(suite), List.duplicate("body", 12_303), 12_300)
      assert %Verdict{fixed: 12_300, fault_count: 0} = Chain.verify([block, tail], bodies: true)

      {:ok, %{root: root}} = Chain.header(block)
      {start, 32} = :binary.match(block, root)
      assert [:root] = for(fault <- Chain.verify([flip(block, start), tail]).faults, do: fault.class)
    end
  end

  defp body(size, fill), do: :binary.copy(fill, size + 100)

  defp flip(block, at) do
    <<head::binary-size(at), byte, rest::binary>> = block
    <<head::binary, Bitwise.bxor(byte, 1), rest::binary>>
  end

  defp sealed(suite, bodies, count) do
    {:ok, chain} = Chain.open("patient/1", suite: suite, created_at: 0)

    drafts =
      for {body, n} <- Enum.with_index(bodies, 1) do
        {:ok, draft} = Event.draft(%{when: n, kind: "vital", body: body}, euid: <<n::128>>)
        Chain.stamp(draft, recorded_at: n, salt: <<n::128>>)
      end

    {:ok, frames} = Chain.frames(suite, drafts)
    {:ok, chain, _} = Chain.settle(chain, frames)
    {:ok, block, chain} = Chain.seal(chain, sealed_at: 20_000, max_events: count, max_bytes: 100 * @mebibyte)
    {:ok, tail} = Chain.tail(chain, block)
    {block, tail}
  end
end
