defmodule EventSeal.Native do
  @moduledoc false
  @on_load :load

  def load do
    :event_seal |> :code.priv_dir() |> Path.join("native/event_seal") |> String.to_charlist() |> :erlang.load_nif(0)
  end

  def format, do: :erlang.nif_error(:not_loaded)
end
