defmodule EventSeal.Signer.File do
  @moduledoc """
  A signing key in a file that its owner alone can read (mode 0600; anything else is refused):

      checkpoints: [signer: {EventSeal.Signer.File, "log.key"}]

  `mix event_seal.keygen` makes one, or `generate/3`. It is one line of text, `PRIVATE+KEY+name+id+key`, the form that other
  programs for signed notes read, too. Once opened the secret lies outside the VM's heaps: no term, trace or crash dump
  shows it.
  """
  @behaviour EventSeal.Signer

  import Bitwise
  alias EventSeal.{Error, Native, Signer}

  @longest 4_096

  @doc """
  Makes a new key of this name (that of a log is its origin: a host name and a path, as `clinic.example/log`) in a file
  that must not be there yet. `purpose` is `:log`, `:witness` or `:receipts`; a key serves no other than its own. Returns
  the verifier key, to be given to all who verify.
  """
  @spec generate(Path.t(), String.t(), :log | :witness | :receipts) :: {:ok, String.t()} | {:error, Error.t()}
  def generate(path, name, purpose \\ :log) do
    with {:ok, {secret, key}} <- Signer.native(Native.key_texts(name, purpose, :crypto.strong_rand_bytes(32))),
         :ok <- Error.posix(write(path, [secret, ?\n]), path),
         do: {:ok, key}
  end

  # The mode is set before there is anything to read.
  defp write(path, text) do
    with {:ok, file} <- :file.open(path, [:raw, :write, :exclusive]) do
      written = with :ok <- :file.change_mode(path, 0o600), :ok <- :file.write(file, text), do: :file.sync(file)

      :file.close(file)
      written
    end
  end

  @impl true
  def open(path) do
    with {:ok, stat} <- Error.posix(File.lstat(path), path),
         :ok <- private(stat, path),
         {:ok, text} <- Error.posix(File.read(path), path),
         {:ok, {key, verifier}} <- Signer.native(Native.key_open(String.trim_trailing(text, "\n"))),
         do: {:ok, key, verifier}
  end

  defp private(%{type: :regular, mode: mode, size: size}, _path)
       when (mode &&& 0o077) == 0 and size <= @longest,
       do: :ok

  defp private(_stat, path) do
    {:error, Error.new(:invalid, field: :signer, rule: "#{path} must be a small regular file of mode 0600")}
  end

  @impl true
  def sign(key, message), do: {:ok, Native.key_sign(key, message)}
end
