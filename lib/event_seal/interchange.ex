defmodule EventSeal.Interchange do
  @moduledoc """
  The interchange form: JSON Lines, one flow a file, that anyone can read and check. See FORMAT.md, "Interchange".
  """

  alias EventSeal.{Chain, Error, Native, Verdict, Verification}

  @doc "The first line of a flow's file: `genesis` is the genesis record, `closed` whether a `$close` ends the flow."
  @spec header(binary, boolean) :: {:ok, binary} | {:error, Error.t()}
  def header(genesis, closed), do: Error.native(Native.interchange_header(genesis, closed))

  @doc "The lines of a packed block (its events, then the block) or of a packed tail."
  @spec lines(EventSeal.Chain.container()) :: {:ok, binary} | {:error, Error.t()}
  def lines(container), do: Error.native(Native.interchange_lines(container))

  @doc """
  Verifies one file's text. A body that is `null` counts as not shown. Options: `:threads`, `:max_rate`, `:max_faults`,
  `:progress` as in `EventSeal.verify/2`.
  """
  @spec verify(binary, keyword) :: {:ok, Verdict.t()} | {:error, Error.t()}
  def verify(text, opts \\ []), do: Verification.file(text, opts)

  @doc """
  Verifies files, one after the other, and adds up their verdicts. A file that cannot be read is an error. A file of packed
  containers, a part of one flow, is checked alone: nothing is said of what stood before and behind it. Of an archive the
  chain is verified, in bounded memory; whether it is signed as it should be, `EventSeal.Archive.verify/2` says.
  """
  @spec verify_files([Path.t()], keyword) :: {:ok, Verdict.t()} | {:error, Error.t()}
  def verify_files(paths, opts \\ []) do
    opts = Keyword.put_new_lazy(opts, :pool, fn -> Verification.pool(opts) end)

    Enum.reduce_while(paths, {:ok, %Verdict{}}, fn path, {:ok, verdict} ->
      with {:ok, next} <- verify_file(path, opts) do
        {:cont, {:ok, Verdict.add(verdict, next, Keyword.get(opts, :max_faults, 1_000))}}
      else
        {:error, _} = error -> {:halt, error}
      end
    end)
  end

  defp verify_file(path, opts) do
    case beginning(path) do
      {:ok, <<"EVSEALA1", _::binary>>} -> Verification.archive(path, opts)
      {:ok, <<"EVSEALA", version, _::binary>>} -> {:error, unknown(path, version)}
      {:ok, _other} -> with({:ok, text} <- read(path), do: verify_either(text, opts))
      {:error, _} = error -> error
    end
  end

  @doc false
  # What a file begins with: more than any kind of file needs to be known by.
  @spec beginning(Path.t()) :: {:ok, binary} | {:error, Error.t()}
  def beginning(path) do
    with {:ok, file} <- posix(:file.open(path, [:raw, :binary, :read]), path) do
      read = :file.read(file, 4_096)
      :file.close(file)
      if read == :eof, do: {:ok, ""}, else: posix(read, path)
    end
  end

  @doc false
  @spec unknown(Path.t(), byte) :: Error.t()
  def unknown(path, version),
    do: Error.new(:malformed, detail: "#{path}: version #{inspect(<<version>>)} of this file format is not known; 1 is")

  defp verify_either(<<"EVSEAL", kind, "1", _::binary>> = bytes, opts) when kind in [?B, ?T] do
    pieces = split(bytes)
    flow = with {:ok, header} <- Chain.header(hd(pieces)), do: header.flow, else: (_malformed -> "")
    asked = [%{flow: flow, pieces: pieces, alone: true, more: true}]
    with {:ok, verdict, _edges} <- Verification.run(asked, opts), do: {:ok, verdict}
  end

  defp verify_either(text, opts), do: verify(text, opts)

  # Each container says how long it is; what does not is left to the verification.
  defp split(<<_::binary-16, length::64, _::binary>> = bytes) when length > 24 and length < byte_size(bytes) do
    <<container::binary-size(length), rest::binary>> = bytes
    [container | split(rest)]
  end

  defp split(bytes), do: [bytes]

  defp read(path), do: posix(File.read(path), path)

  defp posix({:error, posix}, path),
    do: {:error, Error.new(:not_found, detail: "#{path}: #{:file.format_error(posix)}")}

  defp posix(ok, _path), do: ok
end
