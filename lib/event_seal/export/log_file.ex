defmodule EventSeal.Export.LogFile do
  @moduledoc false
  # A store's log in a file: FORMAT.md, "Log file". Written for a size that was read first; what is added meanwhile stays out.

  alias EventSeal.{Error, Store}

  @magic "EVSEALL1"
  @page 1_000

  @doc "Writes it through `write`, which takes a function of `put`; nothing is written of an empty log."
  @spec write(Store.t(), ((function -> {:ok, non_neg_integer} | {:error, Error.t()}) -> result)) :: {:ok, 0} | result
        when result: {:ok, non_neg_integer} | {:error, Error.t()}
  def write(store, write) do
    case Store.log(store, :size) do
      {:ok, %{leaves: 0, checkpoints: 0}} -> {:ok, 0}
      {:ok, sizes} -> write.(&items(&1, store, sizes))
      {:error, _} = error -> error
    end
  end

  defp items(put, store, %{leaves: leaves, checkpoints: checkpoints}) do
    with {:ok, bytes} <- put.(<<@magic, leaves::64, checkpoints::64, 0::320>>, 0),
         {:ok, bytes} <- page(put, store, :leaves, 0, leaves, bytes),
         do: page(put, store, :checkpoints, 0, checkpoints, bytes)
  end

  defp page(_put, _store, _what, from, from, bytes), do: {:ok, bytes}

  defp page(put, store, what, from, to, bytes) do
    with {:ok, [_ | _] = items} <- Store.log(store, {what, from, min(@page, to - from)}),
         {:ok, bytes} <- put.(Enum.map(items, &[<<byte_size(&1)::32>>, &1]), bytes) do
      page(put, store, what, from + length(items), to, bytes)
    else
      {:ok, []} -> {:error, Error.new(:corrupt, detail: "the log is shorter than it says")}
      {:error, _} = error -> error
    end
  end

  @doc "Calls `fun` with each item, `{:leaf | :checkpoint, bytes}`, and the accumulator; the file must hold these and no more."
  @spec reduce(Path.t(), acc, ({:leaf | :checkpoint, binary}, acc -> {:ok, acc} | {:error, Error.t()})) ::
          {:ok, acc} | {:error, Error.t()}
        when acc: term
  def reduce(path, acc, fun) do
    case :file.open(path, [:raw, :binary, :read, :read_ahead]) do
      {:ok, file} ->
        try do
          sized(file, path, acc, fun)
        after
          :file.close(file)
        end

      {:error, posix} ->
        {:error, Error.new(:not_found, detail: "#{path}: #{:file.format_error(posix)}")}
    end
  end

  defp sized(file, path, acc, fun) do
    with {:ok, <<@magic, leaves::64, checkpoints::64, 0::320>>} <- :file.read(file, 64),
         {:ok, acc} <- read(file, path, :leaf, leaves, acc, fun),
         {:ok, acc} <- read(file, path, :checkpoint, checkpoints, acc, fun),
         :eof <- :file.read(file, 1) do
      {:ok, acc}
    else
      {:ok, <<"EVSEALL", version, _::binary>>} when version != ?1 ->
        malformed(path, "version #{<<version>>} of the log file is not known; version 1 is")

      {:error, %Error{}} = error ->
        error

      _other ->
        malformed(path, "no log file")
    end
  end

  defp read(_file, _path, _kind, 0, acc, _fun), do: {:ok, acc}

  defp read(file, path, kind, left, acc, fun) do
    with {:ok, <<size::32>>} when size in 1..2_097_152 <- :file.read(file, 4),
         {:ok, <<item::binary-size(size)>>} <- :file.read(file, size) do
      with {:ok, acc} <- fun.({kind, item}, acc), do: read(file, path, kind, left - 1, acc, fun)
    else
      _cut -> malformed(path, "the log file ends too soon")
    end
  end

  defp malformed(path, detail), do: {:error, Error.new(:malformed, detail: "#{path}: #{detail}")}
end
