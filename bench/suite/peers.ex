defmodule Bench.Peers do
  @moduledoc false
  # The others of a row: started before its samples are taken, stopped behind them. One that does not start is missing, and
  # its row says why.

  @type peers :: %{atom => {:ok, term} | {:missing, String.t()}}

  @doc """
  Starts each peer by its function, calls `fun` with all of them, and stops them by their modules. With `--ours` there are
  none.
  """
  @spec run(map, [{atom, module, (() -> term)}], (peers -> result)) :: result when result: var
  def run(%{ours: true}, _wanted, fun), do: fun.(%{})

  def run(_options, wanted, fun) do
    peers = Map.new(wanted, fn {name, _module, start} -> {name, start(start)} end)

    try do
      fun.(peers)
    after
      for {name, module, _start} <- wanted, {:ok, peer} <- [peers[name]], do: module.stop(peer)
    end
  end

  defp start(start) do
    {:ok, start.()}
  rescue
    error -> Bench.Samples.missing(error)
  end

  @doc "A peer's part in `Bench.Samples.take/2`: `measure` gets what its start returned. Empty where no peers are asked for."
  @spec contender(peers, atom, [{String.t(), String.t()}], (term -> number | [number])) :: [Bench.Samples.contender()]
  def contender(peers, name, keys, measure) do
    case peers do
      %{^name => {:ok, peer}} -> [{keys, fn -> measure.(peer) end}]
      %{^name => {:missing, _} = missing} -> [{keys, missing}]
      %{} -> []
    end
  end
end
