defmodule EventSeal.ProofText do
  @moduledoc false
  # The parts of an event's proof, taken apart and put together again (FORMAT.md, "Event proof"), without looking whether
  # they are right.

  alias EventSeal.{NoteKey, Oracle}

  @repeated ~w(before after path)

  @doc "Fields, index and path in the log, and the checkpoint: text and signature lines."
  def split(proof) do
    [fields, log, text, signatures] = String.split(proof, "\n\n")
    ["event-seal/1 proof" | fields] = String.split(fields, "\n")
    ["c2sp.org/tlog-proof@v1", "index " <> index | nodes] = String.split(log, "\n")
    fields = for field <- fields, do: field |> String.split(" ", parts: 2) |> List.to_tuple()
    %{fields: fields, index: index, nodes: nodes, text: text <> "\n", signatures: signatures}
  end

  @doc "The other way round."
  def join(%{fields: fields, index: index, nodes: nodes, text: text, signatures: signatures}) do
    fields = for {key, value} <- fields, do: "#{key} #{value}\n"
    nodes = for node <- nodes, do: [node, ?\n]
    log = ["\nc2sp.org/tlog-proof@v1\nindex ", index, ?\n, nodes, ?\n, text, ?\n, signatures]
    IO.iodata_to_binary(["event-seal/1 proof\n", fields, log])
  end

  @doc "The value of a field."
  def value(proof, key), do: proof |> split() |> Map.fetch!(:fields) |> List.keyfind(key, 0) |> elem(1)

  @doc "The proof with this value of a field: nil takes it away, a list gives that many."
  def put(proof, key, value) do
    parts = split(proof)
    join(%{parts | fields: put_field(parts.fields, key, List.wrap(value))})
  end

  # In the order of the format, so that a field that was not there comes to its place.
  @order ~w(suite flow created_at nonce n euid when recorded_at late revision kind version place geo who salt body
            commitment height first count epoch closes when_min when_max sealed_at previous before after path)

  defp put_field(fields, key, values) do
    at = fn {key, _} -> Enum.find_index(@order, &(&1 == key)) end
    Enum.sort_by(Enum.reject(fields, &(elem(&1, 0) == key)) ++ for(value <- values, do: {key, value}), at)
  end

  @doc """
  The same fields in a log of one leaf that has what they lead to, with a checkpoint that the key signs: a log that lies.
  """
  def logged(proof, %NoteKey{} = key) do
    %{fields: fields} = split(proof)
    root = :crypto.hash(:sha256, <<0, leaf(fields)::binary>>)
    text = "#{key.name}\n1\n#{Base.encode64(root)}\n"
    join(%{fields: fields, index: "0", nodes: [], text: text, signatures: NoteKey.line(key, text)})
  end

  @doc "G of a proof's flow, in hex."
  def genesis(proof) do
    fields = split(proof).fields |> Map.new()
    Base.encode16(genesis(suite(fields), fields), case: :lower)
  end

  defp leaf(fields) do
    many = Map.new(@repeated, fn key -> {key, for({^key, digest} <- fields, do: unhex(digest))} end)
    fields = Map.new(fields)
    suite = suite(fields)
    g = genesis(suite, fields)
    block = block(fields)

    root =
      climb(
        suite,
        id(suite, g, event(suite, fields), many),
        int(fields, "n") - block["first"],
        block["count"],
        many["path"]
      )

    previous = if fields["previous"], do: unhex(fields["previous"]), else: g
    hash = Oracle.block_hash(suite, g, Map.put(block, "root", root), previous)
    <<1, suite_byte(suite), g::binary, block["block"]::64, block["first"] + block["count"] - 1::64, hash::binary>>
  end

  defp genesis(suite, fields),
    do: Oracle.genesis(suite, int(fields, "created_at"), unhex(fields["nonce"]), fields["flow"])

  defp event(suite, fields) do
    where =
      cond do
        place = fields["place"] -> %{"place" => place}
        geo = fields["geo"] -> %{"geo" => geo |> String.split(" ") |> Enum.map(&String.to_integer/1)}
        true -> nil
      end

    numbers = Map.new(~w(when recorded_at revision version), &{&1, int(fields, &1)})
    others = %{"euid" => unhex(fields["euid"]), "kind" => fields["kind"], "who" => fields["who"], "where" => where}
    more = %{"late" => fields["late"] == "true", "commitment" => commitment(suite, fields)}
    Oracle.event_hash(suite, numbers |> Map.merge(others) |> Map.merge(more))
  end

  defp commitment(_suite, %{"commitment" => commitment}), do: unhex(commitment)

  defp commitment(suite, fields),
    do: Oracle.commitment(suite, unhex(fields["salt"]), Base.decode64!(fields["body"] || ""))

  defp id(suite, g, event, %{"before" => before, "after" => later}) do
    fill = fn digests -> List.duplicate(g, max(0, 3 - length(digests))) end
    Oracle.h(suite, "link", Enum.join([g] ++ Enum.reverse(before) ++ fill.(before) ++ [event] ++ later ++ fill.(later)))
  end

  defp block(fields) do
    numbers = Map.new(~w(first count epoch when_min when_max sealed_at), &{&1, int(fields, &1)})
    Map.merge(numbers, %{"block" => int(fields, "height"), "closes" => fields["closes"] == "true"})
  end

  # A path that is too short or too long leads somewhere, too.
  defp climb(_suite, digest, _i, _count, []), do: digest

  defp climb(suite, digest, i, count, path) do
    left = largest_power_below(max(count, 2))
    {rest, [node]} = Enum.split(path, -1)

    if i < left,
      do: Oracle.h(suite, "node", climb(suite, digest, i, left, rest) <> node),
      else: Oracle.h(suite, "node", node <> climb(suite, digest, i - left, count - left, rest))
  end

  defp largest_power_below(count), do: Enum.find(Stream.iterate(1, &(&1 * 2)), &(&1 * 2 >= count))

  defp suite(%{"suite" => "sha256"}), do: :sha256
  defp suite(%{"suite" => "blake3"}), do: :blake3
  defp suite_byte(:sha256), do: 1
  defp suite_byte(:blake3), do: 2
  defp int(fields, key), do: String.to_integer(fields[key])
  defp unhex(hex), do: Base.decode16!(hex, case: :lower)
end
