defmodule EventSeal.Heads do
  @moduledoc """
  The heads of a store's flows, in a small file that is kept elsewhere: by it a store that was rolled back, or a flow that
  was cut off, is recognised later. `EventSeal.verify/2` and `mix event_seal.verify` take it as `head`.

  The file names flows by their genesis digests, and holds no bodies. Its first line is `event-seal-heads/1`; then there is a
  line for each flow, with a space between the fields, digests in hex, `-` where there is none: genesis, last settled
  position, its provisional id, last fixed position, hash of the last block.
  """

  alias EventSeal.{Chain, Error, Fault, Record, Store}

  @form "event-seal-heads/1"
  @page 1_000

  @type head :: %{
          n: non_neg_integer,
          provisional: binary | nil,
          fixed: non_neg_integer,
          block_hash: binary | nil
        }
  @type t :: %{optional(genesis :: binary) => head}

  @doc "Writes the heads of all flows to a file, mode 0600; one that is there is replaced, whole."
  @spec write(Store.t(), Path.t()) :: {:ok, non_neg_integer} | {:error, Error.t()}
  def write(store, path) do
    part = path <> ".part"

    with :ok <- Error.posix(File.write(part, ""), part),
         :ok <- Error.posix(File.chmod(part, 0o600), part),
         :ok <- Error.posix(File.write(part, [@form, ?\n]), part),
         {:ok, file} <- Error.posix(File.open(part, [:append, :raw, :delayed_write]), part),
         {:ok, count} <- lines(store, file),
         :ok <- Error.posix(:file.sync(file), part),
         :ok <- Error.posix(File.close(file), part),
         :ok <- Error.posix(File.rename(part, path), path),
         do: {:ok, count}
  end

  defp lines(store, file) do
    {:ok, store |> flows() |> Stream.map(&line(store, &1, file)) |> Enum.count()}
  rescue
    error in Error -> {:error, error}
  end

  defp line(store, flow, file) do
    {chain, head} = ok!(of(store, flow))
    fields = [hex(chain.digest), head.n, hex(head.provisional), head.fixed, hex(head.block_hash)]
    with {:error, error} <- Error.posix(:file.write(file, [Enum.join(fields, " "), ?\n]), "heads"), do: raise(error)
  end

  @doc false
  # The ids of all flows, lazily; what the store answers otherwise is raised.
  @spec flows(Store.t()) :: Enumerable.t()
  def flows(store) do
    nil
    |> Stream.unfold(fn cursor ->
      flows = ok!(Store.flows(store, cursor, @page))
      if flows != [], do: {flows, List.last(flows)}
    end)
    |> Stream.concat()
  end

  @doc false
  # A flow's chain, as it began, and its head.
  @spec of(Store.t(), Store.flow()) :: {:ok, {Chain.t(), head}} | {:error, Error.t()}
  def of(store, flow) do
    with {:ok, %{intact: true, whole: true} = stored} <- Store.head(store, flow),
         {:ok, chain} <- Chain.restore(stored.genesis, nil, nil, []),
         {:ok, hash} <- block_hash(stored.last_block),
         {:ok, n, provisional} <- last(stored) do
      {:ok, {chain, %{n: n, provisional: provisional, fixed: stored.fixed, block_hash: hash}}}
    else
      {:ok, _damaged} -> {:error, Error.new(:corrupt, detail: "a flow's end cannot be read")}
      {:error, _} = error -> error
    end
  end

  defp block_hash(nil), do: {:ok, nil}
  defp block_hash(block), do: with({:ok, header} <- Chain.header(block), do: {:ok, header.hash})

  # Of a block the provisional ids are not kept, and all of them are made anew for the last one.
  defp last(stored) do
    case {List.last(Record.settled(stored.entries)), stored.last_block} do
      {%{n: n, provisional: provisional}, _block} -> {:ok, n, provisional}
      {nil, nil} -> {:ok, 0, nil}
      {nil, block} -> with {:ok, ids} <- Chain.Provisional.of(block), do: {:ok, stored.fixed, List.last(ids)}
    end
  end

  @doc "Reads a file that `write/2` wrote; `:malformed` if it is none."
  @spec read(Path.t()) :: {:ok, t} | {:error, Error.t()}
  def read(path) do
    with {:ok, text} <- Error.posix(File.read(path), path),
         [@form | lines] <- String.split(text, "\n"),
         {lines, [""]} <- Enum.split(lines, -1),
         heads = Enum.map(lines, &parse/1),
         true <- Enum.all?(heads) and length(Enum.uniq_by(heads, &elem(&1, 0))) == length(heads) do
      {:ok, Map.new(heads)}
    else
      {:error, _} = error -> error
      _other -> {:error, Error.new(:malformed, detail: "#{path}: not a file of heads")}
    end
  end

  defp parse(line) do
    with [genesis, n, provisional, fixed, block_hash] <- String.split(line, " "),
         {:ok, <<_::256>> = genesis} <- unhex(genesis),
         {n, ""} when n >= 0 <- Integer.parse(n),
         {fixed, ""} when fixed in 0..n <- Integer.parse(fixed),
         {:ok, provisional} when is_binary(provisional) == n > 0 <- unhex(provisional),
         {:ok, block_hash} when is_binary(block_hash) == fixed > 0 <- unhex(block_hash) do
      {genesis, %{n: n, provisional: provisional, fixed: fixed, block_hash: block_hash}}
    else
      _other -> nil
    end
  end

  defp hex(nil), do: "-"
  defp hex(digest), do: Base.encode16(digest, case: :lower)

  defp unhex("-"), do: {:ok, nil}
  defp unhex(<<_::binary-64>> = hex), do: Base.decode16(hex, case: :lower)
  defp unhex(_other), do: :error

  @doc """
  A `:rolled_back` fault for each known head that the store does not have or extend. Such a fault has what is stored as
  `recorded` and what is known as `recomputed`; a flow that is missing bears its genesis digest in the place of its id.
  """
  @spec faults(Store.t(), t) :: {:ok, [Fault.t()]} | {:error, Error.t()}
  def faults(store, heads) do
    {faults, missing} = store |> flows() |> Enum.reduce({[], heads}, &compare(store, &1, &2))

    {:ok,
     Enum.reverse(faults) ++
       for({genesis, head} <- missing, do: fault("genesis " <> hex(genesis), head.n, nil, head.provisional))}
  rescue
    error in Error -> {:error, error}
  end

  defp compare(store, flow, {faults, heads}) do
    with {:ok, %{genesis: genesis} = stored} <- Store.head(store, flow),
         {:ok, chain} <- Chain.restore(genesis, nil, nil, []),
         {%{} = head, heads} <- Map.pop(heads, chain.digest) do
      {known(store, stored, head) ++ faults, heads}
    else
      {nil, heads} -> {faults, heads}
      # What cannot be read is a fault of the verification already, and is not found in its place here.
      {:error, %Error{reason: reason}} when reason in [:corrupt, :malformed] -> {faults, heads}
      {:error, error} -> raise error
    end
  end

  defp known(store, stored, head) do
    both = [
      {head.fixed, block_hash(store, stored, head), head.block_hash},
      {head.n, provisional(store, stored, head.n), head.provisional}
    ]

    for {position, recorded, known} <- both, recorded != known, do: fault(stored.flow, position, recorded, known)
  end

  defp block_hash(_store, _stored, %{fixed: 0}), do: nil

  # The block that ended there: another cut is another history.
  defp block_hash(store, stored, %{fixed: fixed}) do
    with {:ok, block} <- block(store, stored.flow, fixed),
         {:ok, header} <- Chain.header(block),
         true <- header.first + header.count - 1 == fixed,
         do: header.hash,
         else: (_other -> nil)
  end

  defp provisional(_store, _stored, 0), do: nil

  defp provisional(_store, %{fixed: fixed} = stored, n) when n > fixed do
    Enum.find_value(Record.settled(stored.entries), fn entry -> if entry.n == n, do: entry.provisional end)
  end

  defp provisional(store, stored, n) do
    with {:ok, block} <- block(store, stored.flow, n),
         {:ok, header} <- Chain.header(block),
         {:ok, ids} <- Chain.Provisional.of(block),
         do: Enum.at(ids, n - header.first),
         else: (_other -> nil)
  end

  defp block(store, flow, n) do
    with {:ok, pieces} <- Store.blocks(store, flow, {n, n}),
         piece when piece != nil <- List.last(pieces),
         do: Store.read(piece)
  end

  defp fault(flow, position, recorded, known) do
    %Fault{flow: flow, position: position, class: :rolled_back, recorded: recorded, recomputed: known}
  end

  defp ok!({:ok, value}), do: value
  defp ok!({:error, error}), do: raise(error)
end
