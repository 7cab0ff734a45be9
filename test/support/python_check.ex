defmodule EventSeal.PythonCheck do
  @moduledoc false
  # check_proof.py and check_receipt.py, which know FORMAT.md and nothing of the library, over many files in one process.

  alias EventSeal.{Error, Proof}

  @python "_build/python/bin/python"
  @together 200

  @doc "Starts one of them; it ends with the process that called."
  def start!(module \\ "check_proof") do
    unless File.regular?(@python),
      do: raise("#{@python} with blake3 and cryptography is missing; test/support/install_python makes it")

    args = ["-B", Path.join(__DIR__, "check_proofs.py"), module]
    Port.open({:spawn_executable, Path.expand(@python)}, [:binary, :exit_status, packet: 4, args: args])
  end

  @doc "What it says of each file: `{:proved, what}`, whether proof or receipt, or `{:refused, why}`."
  def verdicts(port, keys, proofs) do
    proofs
    |> Stream.chunk_every(@together)
    |> Enum.flat_map(fn some ->
      for proof <- some, do: Port.command(port, [Enum.join(keys, "\n"), "\n\n", proof])
      for _ <- some, do: answer(port)
    end)
  end

  @doc """
  Those of the files, `{what, proof}` each, of which check_proof.py or `EventSeal.Proof` says anything but this verdict,
  `:proved` or `:refused`. Of all witnesses among the keys a signature is asked.
  """
  def unlike(port, keys, [_ | _] = files, verdict) do
    said = verdicts(port, keys, for({_, file} <- files, do: file))

    for {{what, file}, {python, why}} <- Enum.zip(files, said),
        own = own(keys, file),
        {own, python} != {verdict, verdict},
        do: {what, elixir: own, python: {python, why}, file: file}
  end

  defp own(keys, file) do
    {logs, witnesses} = Enum.split_with(keys, &log?/1)

    case logs != [] && Proof.verify(file, key: logs, witnesses: witnesses) do
      {:ok, _} -> :proved
      {:error, %Error{reason: reason}} when reason in [:malformed, :untrusted, :invalid] -> :refused
      false -> :refused
    end
  end

  defp log?(key), do: match?(<<1, _::binary>>, key |> String.split("+", parts: 3) |> List.last() |> Base.decode64!())

  defp answer(port) do
    receive do
      {^port, {:data, "proved: " <> what}} -> {:proved, what}
      {^port, {:data, "refused: " <> why}} -> {:refused, why}
      {^port, {:exit_status, status}} -> raise("check_proofs.py ended with #{status}")
    end
  end
end
