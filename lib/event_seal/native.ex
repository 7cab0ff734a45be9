defmodule EventSeal.Native do
  @moduledoc false
  # The NIF's stubs. A native library cannot be upgraded while it is loaded: restart the VM to change it.
  @on_load :load

  @doc false
  def load do
    :event_seal |> :code.priv_dir() |> Path.join("native/event_seal") |> String.to_charlist() |> :erlang.load_nif(0)
  end

  @spec lock(Path.t()) :: {:ok, reference} | {:error, :locked | :io | :not_utf8}
  def lock(_path), do: not_loaded()

  @spec unlock(reference) :: :ok
  def unlock(_lock), do: not_loaded()

  defp not_loaded, do: :erlang.nif_error(:not_loaded)
end
