defmodule EventSeal.VectorsTest do
  use ExUnit.Case, async: true

  alias EventSeal.Oracle
  alias EventSeal.Oracle.Json

  @dir Path.expand("vectors", __DIR__)
  @flows Path.wildcard(Path.join(@dir, "*.jsonl"))

  test "the vectors are there" do
    assert length(@flows) == 18
  end

  for path <- @flows do
    name = Path.basename(path)

    test "the oracle reproduces every value of #{name}" do
      lines = lines(unquote(name))
      for {line, recomputed} <- Enum.zip(lines, Oracle.recompute(lines)), do: assert(line == recomputed)
      assert length(lines) > 1
    end
  end

  test "the oracle does not merely hand back what it is given" do
    lines = lines("sha256-12.jsonl")

    for {line, i} <- Enum.with_index(lines), {key, value} <- line, follows?(key), value != nil do
      changed = List.replace_at(lines, i, Map.put(line, key, other(value)))
      refute Oracle.recompute(changed) == changed, "line #{i + 1}, #{key}"
    end
  end

  test "the oracle reproduces every leaf and every root of the log" do
    log = @dir |> Path.join("log.json") |> File.read!() |> Json.decode!()
    leaves = for leaf <- log["leaves"], do: Base.decode16!(leaf["data"], case: :lower)
    assert leaves == Enum.flat_map(@flows, &(&1 |> Path.basename() |> lines() |> Oracle.leaves()))
    assert length(log["roots"]) == length(leaves) + 1

    for {root, size} <- Enum.with_index(log["roots"]) do
      assert root == leaves |> Enum.take(size) |> Oracle.log_root() |> Base.encode16(case: :lower)
    end
  end

  defp lines(name), do: @dir |> Path.join(name) |> File.read!() |> Oracle.read()

  # A change of anything else is a change of the flow, with hashes that follow it.
  defp follows?(key), do: key not in ~w(format suite window checkpoint)

  defp other(value) when is_integer(value), do: value + 1
  defp other(value) when is_boolean(value), do: not value
  defp other(<<byte, rest::binary>>), do: <<Bitwise.bxor(byte, 1), rest::binary>>
  defp other(""), do: "x"
  defp other(%{"place" => place}), do: %{"place" => other(place)}
  defp other(%{"geo" => [lat, lon]}), do: %{"geo" => [lat + 1, lon]}
end
