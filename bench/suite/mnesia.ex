defmodule Bench.Mnesia do
  @moduledoc false
  # Mnesia bare: a table of `disc_copies` in a VM and a folder of its own.

  @spec start(Path.t()) :: port
  def start(dir) do
    if match?({:error, _}, :code.lib_dir(:mnesia)), do: raise("Erlang's application mnesia is not installed")
    Bench.Peer.start("elixir", ["bench/peers/mnesia.exs", Path.join(dir, "mnesia")])
  end

  @spec stop(port) :: :ok
  def stop(peer), do: Bench.Peer.shut(peer)

  @doc "As `Bench.Postgres.append/5`."
  @spec append(port, pos_integer, pos_integer, number, pos_integer) :: [float]
  def append(peer, callers, batch, seconds, bytes), do: Bench.Peer.ask(peer, "#{callers} #{batch} #{seconds} #{bytes}")
end
