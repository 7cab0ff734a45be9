defmodule EventSeal.Command.Signed do
  @moduledoc false
  # Files that a key must have signed: archives, packets and proofs of events.

  alias EventSeal.{Archive, Error, Interchange, Proof, Verdict, Verification}
  alias EventSeal.Command.Report

  @doc "Verifies files, and adds up their verdicts; says of each what the key has signed in it."
  @spec verify([Path.t()], [String.t(), ...], keyword) :: {:ok, Verdict.t()} | {:error, Error.t()}
  def verify(files, keys, opts) do
    opts = [key: keys, pool: Verification.pool(opts)] ++ opts

    Error.reduce(files, %Verdict{}, fn path, verdict ->
      with {:ok, next} <- file(path, opts), do: {:ok, Verdict.add(verdict, next)}
    end)
  end

  defp file(path, opts) do
    case Interchange.beginning(path) do
      {:ok, <<"EVSEALA", _::binary>>} -> archive(path, opts)
      {:ok, <<"event-seal/", _::binary>>} -> proof(path, opts)
      {:ok, _other} -> {:error, Error.new(:untrusted, detail: "#{path}: nothing in it is signed")}
      {:error, _} = error -> error
    end
  end

  defp archive(path, opts) do
    with {:ok, archive} <- Archive.verify(path, opts) do
      if archive.key, do: Report.signed(path, "up to position #{archive.through}", archive.key)
      {:ok, archive.verdict}
    end
  end

  defp proof(path, opts) do
    with {:ok, text} <- Error.posix(File.read(path), path),
         {:ok, proof} <- Proof.verify(text, key: opts[:key]) do
      Report.signed(path, "the event at position #{proof.event.n}", proof.key)
      {verified, hidden} = if proof.shown, do: {1, 0}, else: {0, 1}
      {:ok, %Verdict{flows: 1, events: 1, fixed: 1, bodies_verified: verified, bodies_not_shown: hidden}}
    end
  end
end
