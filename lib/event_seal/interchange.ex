defmodule EventSeal.Interchange do
  @moduledoc """
  The interchange form: JSON Lines, one flow a file, that anyone can read and check. See FORMAT.md, "Interchange".
  """

  alias EventSeal.{Error, Native, Verdict, Verification}

  @doc "The first line of a flow's file: `genesis` is the genesis record, `closed` whether a `$close` ends the flow."
  @spec header(binary, boolean) :: {:ok, binary} | {:error, Error.t()}
  def header(genesis, closed), do: native(Native.interchange_header(genesis, closed))

  @doc "The lines of a packed block (its events, then the block) or of a packed tail."
  @spec lines(EventSeal.Chain.container()) :: {:ok, binary} | {:error, Error.t()}
  def lines(container), do: native(Native.interchange_lines(container))

  @doc """
  Verifies one file's text. A body that is `null` counts as not shown. Options: `:threads`, `:max_faults`, `:progress` as
  in `EventSeal.verify/2`.
  """
  @spec verify(binary, keyword) :: {:ok, Verdict.t()} | {:error, Error.t()}
  def verify(text, opts \\ []), do: Verification.file(text, opts)

  @doc "Verifies files, one after the other, and adds up their verdicts. A file that cannot be read is an error."
  @spec verify_files([Path.t()], keyword) :: {:ok, Verdict.t()} | {:error, Error.t()}
  def verify_files(paths, opts \\ []) do
    opts = Keyword.put_new_lazy(opts, :pool, fn -> Verification.pool(opts) end)

    Enum.reduce_while(paths, {:ok, %Verdict{}}, fn path, {:ok, verdict} ->
      with {:ok, text} <- read(path), {:ok, next} <- verify(text, opts) do
        {:cont, {:ok, Verdict.add(verdict, next, Keyword.get(opts, :max_faults, 1_000))}}
      else
        {:error, _} = error -> {:halt, error}
      end
    end)
  end

  defp read(path) do
    with {:error, posix} <- File.read(path) do
      {:error, Error.new(:not_found, detail: "#{path}: #{:file.format_error(posix)}")}
    end
  end

  defp native({:ok, _} = ok), do: ok
  defp native({:error, failure}), do: {:error, Error.from_native(failure)}
end
