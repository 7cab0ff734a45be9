defmodule EventSeal.Archive do
  @moduledoc """
  Archives (FORMAT.md, "Archive"): a flow, or a part of one, as packed blocks, and what proves them under a checkpoint, in one
  file for long keeping and fast checking. `EventSeal.Export` writes one a flow, `EventSeal.packet/3` hands out one in
  which only some bodies show; `verify/2`, `EventSeal.Interchange.verify_files/2` and `event-seal verify` check them.

  What an archive proves once it verifies:

    * `verdict` - what was found in the chain
    * `through` - the last position that is proved under the checkpoint; what stands behind it only agrees with it
    * `origin`, `size`, `index` - the log, how many leaves it had, and the leaf of the last proved block
    * `key`, `cosignatures` - whose signatures held, as in `EventSeal.Checkpoint`; nil and none where no key was given

  All but `verdict` are nil in an archive without a proof: nothing shows who made it.
  """

  alias EventSeal.{Chain, Checkpoint, Error, Native, Proof, Record, Store, Verdict, Verification}
  alias EventSeal.Log.Tree
  alias EventSeal.Store.Piece

  defstruct [:verdict, :through, :origin, :size, :index, :key, cosignatures: []]

  @type t :: %__MODULE__{
          verdict: Verdict.t(),
          through: pos_integer | nil,
          origin: String.t() | nil,
          size: pos_integer | nil,
          index: non_neg_integer | nil,
          key: String.t() | nil,
          cosignatures: [{String.t(), non_neg_integer}]
        }

  @typedoc "The tree over a store's log and the checkpoint that is to prove, if one was signed."
  @type log :: {Tree.t(), Checkpoint.t()} | nil
  @typedoc "Writes some bytes; what it is given and gives back is the number of bytes so far."
  @type put :: (iodata, non_neg_integer -> {:ok, non_neg_integer} | {:error, Error.t()})

  @doc """
  Verifies an archive in bounded memory. With `:key` (and `:witnesses`, `:quorum`, as `EventSeal.Checkpoint.open/2` has them)
  `:untrusted` says that its proof is missing, or does not hold; without a key the chain is verified, and whether the
  archive is signed rightly is not known. Other options as `EventSeal.Interchange.verify/2`.
  """
  @spec verify(Path.t(), keyword) :: {:ok, t} | {:error, Error.t()}
  def verify(path, opts \\ []) do
    with :ok <- there(path),
         {:ok, verdict} <- Verification.archive(path, opts),
         {:ok, archive} <- signed(path, verdict, opts),
         do: asked(archive, path, opts)
  end

  defp there(path) do
    case File.stat(path) do
      {:ok, %{type: :regular}} -> :ok
      {:ok, _other} -> {:error, Error.new(:not_found, detail: "#{path}: not a file")}
      {:error, posix} -> {:error, Error.new(:not_found, detail: "#{path}: #{:file.format_error(posix)}")}
    end
  end

  # Where the chain is at fault, nothing is said of signatures.
  defp signed(_path, %{fault_count: count} = verdict, _opts) when count > 0, do: {:ok, %__MODULE__{verdict: verdict}}

  defp signed(path, verdict, opts) do
    witnesses = Keyword.get(opts, :witnesses, [])
    keys = opts |> Keyword.get(:key, []) |> List.wrap()

    case Native.archive_signed(path, keys, witnesses, Keyword.get(opts, :quorum, length(witnesses))) do
      {:ok, nil} ->
        {:ok, %__MODULE__{verdict: verdict}}

      {:ok, {_height, last, index, origin, size, _names, by}} ->
        {key, cosignatures} = by || {nil, []}
        signed = %__MODULE__{verdict: verdict, through: last, origin: origin, size: size, index: index}
        {:ok, %{signed | key: key, cosignatures: cosignatures}}

      {:error, failure} ->
        {:error, Proof.refused(failure)}
    end
  end

  defp asked(%{verdict: %{fault_count: 0}, key: nil} = archive, path, opts) do
    if opts[:key],
      do: {:error, Error.new(:untrusted, detail: "#{path}: nothing in it is signed")},
      else: {:ok, archive}
  end

  defp asked(archive, _path, _opts), do: {:ok, archive}

  @doc false
  # The log as it stands now, for archives that are made from here on.
  @spec log(Store.t()) :: {:ok, log} | {:error, Error.t()}
  def log(store) do
    with {:ok, %Checkpoint{} = checkpoint} <- Checkpoint.last(store),
         {:ok, tree} <- Tree.open(store) do
      {:ok, {tree, checkpoint}}
    else
      {:ok, nil} -> {:ok, nil}
      {:error, _} = error -> error
    end
  end

  @doc false
  # Writes the archive of a whole flow: its sizes are known before its blocks are read.
  @spec write(put, Store.t(), Store.Head.t(), [Piece.t()], log) :: {:ok, non_neg_integer} | {:error, Error.t()}
  def write(put, store, head, pieces, log) do
    with {:ok, tail} <- tail(head),
         {:ok, sizes} <- lengths(pieces),
         {:ok, {height, proof}} <- proof(store, Enum.reverse(pieces), log),
         sizes = Enum.sum(sizes) + byte_size(tail),
         {:ok, bytes} <- put.(Native.archive_preamble(sizes, byte_size(proof), height, false), 0),
         {:ok, bytes} <- Error.reduce(pieces, bytes, &block(put, &1, &2)),
         do: put.([tail, proof], bytes)
  end

  @doc false
  # An archive with only some bodies; `EventSeal.packet/3`.
  @spec packet(Store.t(), String.t(), keyword) :: {:ok, binary} | {:error, Error.t()}
  def packet(store, flow, opts) do
    with {:ok, log} <- log(store),
         {:ok, head} <- Store.head(store, flow),
         {:ok, all} <- Store.blocks(store, flow, {1, head.fixed}),
         {:ok, pieces} <- asked_for(all, opts),
         {:ok, tail} <- if(tail?(opts), do: tail(head), else: {:ok, ""}),
         {:ok, blocks} <- Error.reduce(pieces, [], &shown(&1, &2, opts[:disclose])),
         {:ok, tail} <- disclosed(tail, opts[:disclose]),
         {:ok, {height, proof}} <- proof(store, Enum.reverse(pieces), log) do
      part = length(pieces) < length(all) or (tail == "" and not head.closed)
      pack(IO.iodata_to_binary([Enum.reverse(blocks), tail]), proof, height, part)
    end
  end

  defp pack("", _proof, _height, _part), do: {:error, Error.new(:not_found, detail: "no such event is settled")}

  defp pack(containers, proof, height, part) do
    sizes = Native.archive_preamble(byte_size(containers), byte_size(proof), height, part)
    {:ok, <<sizes::binary, containers::binary, proof::binary>>}
  end

  # From the first to the last block that holds something asked for: those between them belong to the chain.
  defp asked_for(pieces, opts) do
    with {:ok, marked} <- Error.reduce(pieces, [], &mark(&1, &2, opts)) do
      outside = &match?({_piece, false}, &1)
      {:ok, marked |> Enum.drop_while(outside) |> Enum.reverse() |> Enum.drop_while(outside) |> Enum.map(&elem(&1, 0))}
    end
  end

  defp mark(piece, marked, opts) do
    first..last//_ = opts[:range] || 1..(piece.first + piece.count)
    in_range = piece.first <= last and piece.first + piece.count > first

    with {:ok, wanted} <- if(in_range, do: in_time(piece, opts), else: {:ok, false}),
         do: {:ok, [{piece, wanted} | marked]}
  end

  defp in_time(piece, opts) do
    if opts[:since] || opts[:until] do
      with {:ok, block} <- Store.read(piece), {:ok, header} <- Chain.header(block) do
        {:ok,
         header.when_max >= (opts[:since] || header.when_max) and header.when_min <= (opts[:until] || header.when_min)}
      end
    else
      {:ok, true}
    end
  end

  # Which of a tail's events lie in a range or time no header tells: it goes along where there is no end.
  defp tail?(opts), do: is_nil(opts[:range]) and is_nil(opts[:until])

  defp shown(piece, blocks, disclose) do
    with {:ok, block} <- Store.read(piece), {:ok, block} <- disclosed(block, disclose), do: {:ok, [block | blocks]}
  end

  defp disclosed("", _disclose), do: {:ok, ""}
  defp disclosed(container, true), do: {:ok, container}
  defp disclosed(container, false), do: disclosed(container, [])

  defp disclosed(container, positions) do
    with {:error, failure} <- Native.archive_disclose(container, Enum.sort(positions)),
         do: {:error, Error.from_native(failure)}
  end

  @doc false
  # The tail's container; empty if there is none.
  @spec tail(Store.Head.t()) :: {:ok, binary} | {:error, Error.t()}
  def tail(%{whole: false}), do: {:error, Error.new(:corrupt, detail: "events of a flow cannot be read")}

  def tail(head) do
    with {:ok, tail} <- Chain.tail(head.genesis, head.last_block, Record.settled(head.entries)), do: {:ok, tail || ""}
  end

  defp lengths(pieces),
    do: Error.reduce(pieces, [], fn piece, all -> with({:ok, size} <- size(piece), do: {:ok, [size | all]}) end)

  defp size(%{at: {:binary, block}}), do: {:ok, byte_size(block)}
  defp size(%{at: {:file, _path, _offset, length}}), do: {:ok, length}
  defp size(%{at: {:read, length, _fun}}), do: {:ok, length}
  defp size(%{at: :lost}), do: {:error, Error.new(:corrupt, detail: "a block is lost")}

  defp block(put, piece, bytes), do: with({:ok, block} <- Store.read(piece), do: put.(block, bytes))

  # Of the last block that the checkpoint covers.
  defp proof(_store, [], _log), do: {:ok, {0, ""}}
  defp proof(_store, _pieces, nil), do: {:ok, {0, ""}}

  defp proof(store, [piece | earlier], {tree, checkpoint} = log) do
    with {:ok, block} <- Store.read(piece), {:ok, header} <- Chain.header(block) do
      case Tree.block(tree, header.hash) do
        index when is_integer(index) and index < checkpoint.size -> proven(store, header, index, log)
        _not_covered -> proof(store, earlier, log)
      end
    end
  end

  defp proven(store, header, index, {tree, checkpoint}) do
    with {:ok, path} <- Tree.inclusion(tree, store, index, checkpoint.size),
         do: {:ok, {header.height, Native.log_proof(index, path, checkpoint.note)}}
  end
end
