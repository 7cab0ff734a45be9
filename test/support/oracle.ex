defmodule EventSeal.Oracle do
  @moduledoc """
  Every value of format 1, computed as FORMAT.md defines it and by nothing of the library: Elixir, `:crypto` and a plain
  BLAKE3. Slow and short, to be read beside the definitions; it decides when the fast path is asked for its values.

  Events are maps with the keys of the interchange form, digests and salts as raw bytes.
  """
  alias EventSeal.Oracle.{Blake3, Json}

  @type suite :: :sha256 | :blake3
  @type event :: %{String.t() => term}

  @doc "H[role](x)."
  @spec h(suite, String.t(), binary) :: <<_::256>>
  def h(:sha256, role, x) when rem(byte_size(x), 64) == 0 do
    t = sha256(context(role))
    sha256(t <> t <> x)
  end

  def h(:blake3, role, x) when rem(byte_size(x), 64) == 0, do: Blake3.derive_key(context(role), x)

  @doc "G."
  @spec genesis(suite, integer, <<_::128>>, String.t()) :: <<_::256>>
  def genesis(suite, created_at, nonce, flow),
    do: h(suite, "flow", pad64(<<suite_byte(suite), 3, created_at::64, nonce::binary, text(flow)::binary>>))

  @doc "B."
  @spec commitment(suite, <<_::128>>, binary) :: <<_::256>>
  def commitment(suite, salt, body), do: h(suite, "body", pad64(<<salt::binary, byte_size(body)::64, body::binary>>))

  @doc "What E hashes: the frame."
  @spec frame(event) :: binary
  def frame(e) do
    flags = if e["late"], do: 1, else: 0

    pad64(
      <<e["euid"]::binary-size(16), e["when"]::64, e["recorded_at"]::64, e["commitment"]::binary-size(32), flags,
        e["revision"]::16, text(e["kind"])::binary, e["version"]::16, where(e["where"])::binary,
        text(e["who"] || "")::binary>>
    )
  end

  @doc "E."
  @spec event_hash(suite, event) :: <<_::256>>
  def event_hash(suite, event), do: h(suite, "event", frame(event))

  @doc "I of every position that has one, from the event hashes of the whole flow."
  @spec ids(suite, <<_::256>>, [<<_::256>>], boolean) :: [<<_::256>>]
  def ids(suite, g, hashes, closed?) do
    known = if closed?, do: hashes ++ [g, g, g], else: hashes

    known
    |> Enum.chunk_every(4, 1, :discard)
    |> Enum.scan([g, g, g], fn next, [i1, i2, i3 | _] ->
      [h(suite, "link", Enum.join([g, i1, i2, i3 | next])), i1, i2, i3]
    end)
    |> Enum.map(&hd/1)
  end

  @doc "P of every position; `ids` as `ids/4` gives them."
  @spec provisionals(suite, <<_::256>>, [<<_::256>>], [<<_::256>>]) :: [<<_::256>>]
  def provisionals(suite, g, hashes, ids) do
    three = [g, g, g | ids]
    last = Enum.chunk_every([g, g | hashes], 3, 1, :discard)

    for {i, es, n} <- Enum.zip([three, last, 1..max(length(hashes), 1)]),
        do: h(suite, "provisional", pad64(Enum.join([g, i | es]) <> <<n::64>>))
  end

  @doc "The Merkle root over a block's ids."
  @spec root(suite, [<<_::256>>, ...]) :: <<_::256>>
  def root(_suite, [id]), do: id

  def root(suite, ids) do
    {left, right} = Enum.split(ids, split(length(ids)))
    h(suite, "node", root(suite, left) <> root(suite, right))
  end

  @doc "The block hash, from the keys of a block line and G, the hash of the block before (or G) and the root."
  @spec block_hash(suite, <<_::256>>, map, <<_::256>>) :: <<_::256>>
  def block_hash(suite, g, b, previous) do
    flags = if b["closes"], do: 1, else: 0

    h(
      suite,
      "block",
      pad64(
        <<1, suite_byte(suite), flags, 3, b["count"]::32, b["block"]::64, b["first"]::64, b["epoch"]::64,
          b["when_min"]::64, b["when_max"]::64, b["sealed_at"]::64, g::binary, previous::binary, b["root"]::binary>>
      )
    )
  end

  @doc "RFC 6962's tree over the log's leaf data."
  @spec log_root([binary]) :: <<_::256>>
  def log_root([]), do: sha256("")
  def log_root([leaf]), do: sha256(<<0, leaf::binary>>)

  def log_root(leaves) do
    {left, right} = Enum.split(leaves, split(length(leaves)))
    sha256(<<1, log_root(left)::binary, log_root(right)::binary>>)
  end

  @doc "The log's leaf data of a flow: one for each block, and one for its tail."
  @spec leaves([map]) :: [binary]
  def leaves([header | lines]) do
    suite = suite(header)
    g = header["genesis"]
    hashes = for %{"n" => _, "hash" => hash} <- lines, do: hash
    tail = List.last(provisionals(suite, g, hashes, ids(suite, g, hashes, header["closed"])))

    blocks =
      for %{"block" => height} = b <- lines,
          do: <<1, suite_byte(suite), g::binary, height::64, b["first"] + b["count"] - 1::64, b["hash"]::binary>>

    blocks ++ [<<2, suite_byte(suite), g::binary, length(hashes)::64, tail::binary>>]
  end

  @doc "The lines of an interchange file, digests, salts and bodies as raw bytes."
  @spec read(binary) :: [map]
  def read(file), do: for(line <- String.split(file, "\n", trim: true), do: line |> Json.decode!() |> raw())

  @doc """
  The same lines with everything recomputed that follows from something else: a file is right if it comes back the same.

  Of an event only its fields are taken, of a block only its place, epoch and time of sealing.
  """
  @spec recompute([map]) :: [map]
  def recompute([header | lines]) do
    suite = suite(header)
    g = genesis(suite, header["created_at"], header["nonce"], header["flow"])
    events = events(suite, for(%{"n" => _} = event <- lines, do: event))
    hashes = Enum.map(events, & &1["hash"])
    ids = ids(suite, g, hashes, match?(%{"kind" => "$close"}, List.last(events)))
    links = List.to_tuple(Enum.zip([events, padded(ids, length(events)), provisionals(suite, g, hashes, ids)]))

    sealed =
      lines |> Enum.reverse() |> Enum.drop_while(&(not is_map_key(&1, "block"))) |> Enum.count(&is_map_key(&1, "n"))

    {rest, _} = Enum.map_reduce(lines, {0, 0, g, 0}, &line(&1, &2, {suite, g, links, sealed}))
    closed = Enum.any?(rest, & &1["closes"])
    [Map.merge(header, %{"genesis" => g, "closed" => closed, "window" => 3, "format" => "event-seal/1"}) | rest]
  end

  defp events(suite, events) do
    {events, _} =
      Enum.map_reduce(events, nil, fn e, max ->
        e = Map.put(e, "late", max != nil and e["when"] < max)
        e = if e["body"], do: Map.put(e, "commitment", commitment(suite, e["salt"], e["body"])), else: e
        {Map.put(e, "hash", event_hash(suite, e)), Enum.max(for(w <- [max, e["when"]], w, do: w))}
      end)

    events
  end

  defp line(%{"n" => _}, {n, first, previous, height}, {_, _, links, sealed}) do
    {event, id, provisional} = elem(links, n)
    event = event |> Map.drop(["id", "provisional"]) |> Map.put("n", n + 1)
    event = if n < sealed, do: Map.put(event, "id", id), else: Map.put(event, "provisional", provisional)
    {event, {n + 1, first, previous, height}}
  end

  defp line(%{"block" => _} = block, {n, first, previous, height}, {suite, g, links, _}) do
    sealed = for i <- first..(n - 1), do: elem(links, i)
    whens = for {event, _, _} <- sealed, do: event["when"]
    {last, _, _} = List.last(sealed)

    block =
      Map.merge(block, %{
        "block" => height,
        "first" => first + 1,
        "count" => n - first,
        "closes" => last["kind"] == "$close",
        "when_min" => Enum.min(whens),
        "when_max" => Enum.max(whens),
        "root" => root(suite, for({_, id, _} <- sealed, do: id))
      })

    hash = block_hash(suite, g, block, previous)
    {Map.put(block, "hash", hash), {n, n, hash, height + 1}}
  end

  defp line(%{"checkpoint" => _} = checkpoint, state, _), do: {checkpoint, state}

  defp padded(ids, count), do: ids ++ List.duplicate(nil, count - length(ids))

  @hex ~w(nonce genesis euid salt commitment hash id provisional root)
  defp raw(line) do
    Map.new(line, fn
      {key, text} when key in @hex and is_binary(text) -> {key, Base.decode16!(text, case: :lower)}
      {"body", text} when is_binary(text) -> {"body", Base.decode64!(text)}
      other -> other
    end)
  end

  defp suite(%{"suite" => "sha256"}), do: :sha256
  defp suite(%{"suite" => "blake3"}), do: :blake3

  defp suite_byte(:sha256), do: 1
  defp suite_byte(:blake3), do: 2

  defp context(role), do: "event-seal/1 " <> role
  defp sha256(x), do: :crypto.hash(:sha256, x)
  defp pad64(x), do: x <> <<0::size(Integer.mod(-byte_size(x), 64) * 8)>>
  defp text(text), do: <<byte_size(text)::16, text::binary>>

  defp where(nil), do: <<0>>
  defp where(%{"place" => place}), do: <<1, text(place)::binary>>
  defp where(%{"geo" => [lat, lon]}), do: <<2, lat::32, lon::32>>

  # RFC 6962: the largest power of two below the count.
  defp split(count, size \\ 1)
  defp split(count, size) when size * 2 < count, do: split(count, size * 2)
  defp split(_count, size), do: size
end
