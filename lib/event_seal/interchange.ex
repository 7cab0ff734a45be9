defmodule EventSeal.Interchange do
  @moduledoc """
  The interchange form: JSON Lines, one flow a file, that anyone can read and check. See FORMAT.md, "Interchange".
  """

  alias EventSeal.{Chain, Error, Native, Verdict, Verification}

  @doc "The first line of a flow's file: `genesis` is the genesis record, `closed` whether a `$close` ends the flow."
  @spec header(binary, boolean) :: {:ok, binary} | {:error, Error.t()}
  def header(genesis, closed), do: native(Native.interchange_header(genesis, closed))

  @doc "The lines of a packed block (its events, then the block) or of a packed tail."
  @spec lines(EventSeal.Chain.container()) :: {:ok, binary} | {:error, Error.t()}
  def lines(container), do: native(Native.interchange_lines(container))

  @doc """
  Verifies one file's text. A body that is `null` counts as not shown. Options: `:threads`, `:max_rate`, `:max_faults`,
  `:progress` as in `EventSeal.verify/2`.
  """
  @spec verify(binary, keyword) :: {:ok, Verdict.t()} | {:error, Error.t()}
  def verify(text, opts \\ []), do: Verification.file(text, opts)

  @doc """
  Verifies files, one after the other, and adds up their verdicts. A file that cannot be read is an error. A file of packed
  containers, a part of one flow, is checked alone: nothing is said of what stood before and behind it.
  """
  @spec verify_files([Path.t()], keyword) :: {:ok, Verdict.t()} | {:error, Error.t()}
  def verify_files(paths, opts \\ []) do
    opts = Keyword.put_new_lazy(opts, :pool, fn -> Verification.pool(opts) end)

    Enum.reduce_while(paths, {:ok, %Verdict{}}, fn path, {:ok, verdict} ->
      with {:ok, text} <- read(path), {:ok, next} <- verify_either(text, opts) do
        {:cont, {:ok, Verdict.add(verdict, next, Keyword.get(opts, :max_faults, 1_000))}}
      else
        {:error, _} = error -> {:halt, error}
      end
    end)
  end

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

  defp read(path) do
    with {:error, posix} <- File.read(path) do
      {:error, Error.new(:not_found, detail: "#{path}: #{:file.format_error(posix)}")}
    end
  end

  defp native({:ok, _} = ok), do: ok
  defp native({:error, failure}), do: {:error, Error.from_native(failure)}
end
