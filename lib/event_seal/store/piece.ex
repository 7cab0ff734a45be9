defmodule EventSeal.Store.Piece do
  @moduledoc """
  Where a sealed block lies: in memory (`{:binary, bytes}`), as a range of a file (`{:file, path, offset, length}`), or where a
  function reads it (`{:read, length, fun}`), in the process that asks.

  A file range is pinned: segments are only ever appended to, so it stays readable while commits go on. The four bytes in
  front of it are its CRC-32. `first` and `count` are the positions it holds, `height` its place among the flow's blocks.

  A block that damage has taken is `:lost`; its positions, and those of the block before it, are then the most that it may
  hold.
  """

  alias EventSeal.Error

  @enforce_keys [:height, :first, :count, :at]
  defstruct [:height, :first, :count, :at]

  @type t :: %__MODULE__{
          height: non_neg_integer,
          first: pos_integer,
          count: pos_integer,
          at:
            {:binary, binary}
            | {:file, Path.t(), offset :: non_neg_integer, length :: pos_integer}
            | {:read, length :: pos_integer, (() -> {:ok, binary} | {:error, Error.t()})}
            | :lost
        }

  @doc "The bytes; `:corrupt` if they are not what was written, `:storage` if they cannot be read."
  @spec read(t) :: {:ok, binary} | {:error, Error.t()}
  def read(%__MODULE__{at: {:binary, block}}), do: {:ok, block}
  def read(%__MODULE__{at: {:read, _length, fun}}), do: fun.()
  def read(%__MODULE__{at: :lost}), do: {:error, Error.new(:corrupt, detail: "a block is lost")}

  def read(%__MODULE__{at: {:file, path, offset, length}}) do
    with {:ok, read} <- pread(path, offset - 4, length + 4), do: checked(read, length)
  end

  @doc "The bytes as they stand now, whether or not they are what was written: to show what was found, never to build on."
  @spec found(t) :: {:ok, binary} | {:error, Error.t()}
  def found(%__MODULE__{at: {:file, path, offset, length}}) do
    case pread(path, offset, length) do
      {:ok, {:ok, bytes}} when byte_size(bytes) == length -> {:ok, bytes}
      {:ok, short} -> checked(short, length)
      {:error, _} = error -> error
    end
  end

  def found(%__MODULE__{} = piece), do: read(piece)

  @doc "Where it lies in memory or in a file; one that a function reads is read."
  @spec place(t) :: {:ok, EventSeal.Kept.place()} | {:error, Error.t()}
  def place(%__MODULE__{at: {:read, _length, fun}}), do: with({:ok, block} <- fun.(), do: {:ok, {:binary, block}})
  def place(%__MODULE__{at: :lost} = piece), do: read(piece)
  def place(%__MODULE__{at: at}), do: {:ok, at}

  defp pread(path, offset, length) do
    with {:ok, %{type: :regular}} <- File.lstat(path),
         {:ok, fd} <- :file.open(path, [:raw, :binary, :read]) do
      read = :file.pread(fd, offset, length)
      :file.close(fd)
      {:ok, read}
    else
      {:ok, _link} -> {:error, Error.new(:storage, detail: "open: not_regular")}
      {:error, reason} -> {:error, Error.new(:storage, detail: "open: #{reason}")}
    end
  end

  @doc false
  @spec checked({:ok, binary} | :eof | {:error, atom}, non_neg_integer) :: {:ok, binary} | {:error, Error.t()}
  def checked({:ok, <<sum::32, bytes::binary>>}, length) when byte_size(bytes) == length do
    if :erlang.crc32(bytes) == sum, do: {:ok, bytes}, else: {:error, Error.new(:corrupt, detail: "checksum")}
  end

  def checked({:error, reason}, _length), do: {:error, Error.new(:storage, detail: "read: #{reason}")}
  def checked(_short, _length), do: {:error, Error.new(:corrupt, detail: "the file is too short")}
end
