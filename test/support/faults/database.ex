defmodule EventSeal.Faults.Database do
  @moduledoc false
  # The ground of EventSeal.Store.Postgres: a server, and a wire to it. A place is `{operator, cable}`. The faults:
  #
  #   {:kill, passes, moment}              the tree is killed at a call, as its machine ends
  #   {:process, passes, index}            one process of the tree is killed
  #   {:cut, way, bytes, how}              the wire is cut
  #   {:operator, what, passes, moment, wait}   the server is struck, and all is well again after `wait` ms
  @behaviour EventSeal.Faults.Ground

  import :proper_types, only: [integer: 2, oneof: 1, frequency: 1]
  alias EventSeal.Faults.{Cable, Operator, Seam, Tree}
  alias EventSeal.{FaultyFiles, Store}

  @limits [timeout: 5_000, cancel_wait: 500, connect_timeout: 1_000, backoff: {5, 50}] ++
            [statement_timeout: 1_500, lock_timeout: 600, sweep: :infinity]

  @lines [
    {"connection cut", :cut},
    {"session ended", :session},
    {"kill -9 of a backend", :backend},
    {"kill -9 of the server", {:server, "KILL"}},
    {"kill -9 of the server and all sessions", {:server, :all}},
    {"immediate restart", {:server, "QUIT"}},
    {"fast restart", {:server, "INT"}},
    {"server paused", :paused},
    {"no more connections", :crowd},
    {"server read-only", :read_only},
    {"statement_timeout", :slow},
    {"lock_timeout", :locked},
    {"disk of the server really full", :full},
    {"kill -9 of the tree", :kill},
    {"process of the tree killed", :process},
    {"clock set", :clock}
  ]

  @impl true
  def lines(_real), do: @lines

  @impl true
  def faults(real) do
    operator = fn what, wait -> {:operator, what, passes(), moment(), wait} end

    # What takes long is drawn seldom.
    [
      {6, {:cut, oneof([:up, :down]), oneof([integer(1, 400), integer(1, 6_000)]), oneof([:close, :reset])}},
      {3, operator.(oneof([:session, :crowd]), integer(0, 200))},
      {1, operator.(:backend, integer(0, 200))},
      {3, operator.({:server, oneof(["KILL", "QUIT", "INT", :all])}, integer(0, 300))},
      {2, operator.(oneof([:read_only, :locked]), integer(100, 500))},
      {1, frequency([{3, operator.(:slow, 1_800)}, {1, operator.(:paused, 7_000)}])},
      {2, {:kill, passes(), oneof([:before, :after])}},
      {2, {:process, passes(), integer(0, 12)}}
    ] ++ for(:full <- real, do: {1, operator.(:full, integer(0, 1_000))})
  end

  defp moment, do: oneof([:before, :half, :after])
  defp passes, do: integer(0, 5)

  @impl true
  def fresh({operator, cable}) do
    Cable.disarm(cable)
    Operator.fresh(operator)
  end

  @impl true
  def store({operator, cable}),
    do: {Store.Postgres, [client: Seam] ++ @limits ++ Operator.options(operator, cable.port)}

  @impl true
  def tidy(name), do: with({:ok, _count} <- Store.Postgres.sweep(name), do: :ok)

  @impl true
  def arm({:kill, passes, moment}, _place, machine, _tree) do
    armed(%{act: {:halt, fn _call -> send(machine, {:halted, nil}) end}, passes: passes, moment: moment, kind: :kill})
  end

  def arm({:process, passes, index}, _place, _machine, tree) do
    kill = fn _call -> Tree.kill_one(tree, index) end
    armed(%{act: {:also, kill}, passes: passes, kind: :process})
  end

  def arm({:cut, way, bytes, how}, {_operator, cable}, _machine, _tree), do: Cable.arm(cable, way, bytes, how)

  def arm({:operator, what, passes, moment, wait}, {operator, _cable}, _machine, _tree) do
    strike = fn _call -> Operator.strike(operator, what, wait) end
    armed(%{act: {:also, strike}, passes: passes, moment: moment, kind: what})
  end

  # At what is asked for a change: reads are many.
  defp armed(fault), do: FaultyFiles.arm(Map.put(fault, :on, Seam.kinds() -- [:read]))

  @impl true
  def real?(_fault), do: false

  @impl true
  def release({operator, _cable}), do: Operator.server(operator)

  # What was sent on connections that are gone is done by then, or never will be.
  @impl true
  def calm({operator, cable}), do: Operator.at_rest(operator, fn -> Cable.pairs(cable) end)

  @impl true
  def reopened?, do: false

  @impl true
  def stopped(place, nil), do: calm(place)

  @impl true
  def probe({operator, _cable}, _probes, look) do
    server = Operator.server(operator)
    look.(:from_another_node, {Store.Postgres, [sweep: :infinity] ++ Operator.options(operator, server.port)})
  end
end
