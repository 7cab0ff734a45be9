defmodule EventSeal.Faults.Commands do
  @moduledoc false
  # What EventSeal.Faults.Machine is given to run: PropEr's generator, and a script in which everything happens once.
  import :proper_types, only: [integer: 2, oneof: 1, frequency: 1, vector: 2, list: 1]

  @flows ~w(a b c d e f)

  def flows, do: @flows

  @doc "Runs of commands; `faults` are a ground's, by their weights."
  def runs(faults), do: list(command(faults))

  defp command(faults) do
    frequency(
      [
        {12, verb(oneof(@flows))},
        {4, burst()},
        {2, {:append_many, [vector(4, item())]}},
        {2, {:tidy, []}},
        {1, {:verify, []}},
        {1, {:reopen, [oneof([:stop, :kill])]}},
        {1, {:advance, [oneof([1_000, 60_000, 200_000])]}},
        {1, {:clock, [oneof([-86_400_000_000, -1_000_000, 1_000_000, 86_400_000_000])]}}
      ] ++ for({weight, fault} <- faults, do: {weight, {:fault, fault}})
    )
  end

  defp verb(flow) do
    frequency([
      {10, {:append, [flow, euid(), body(), nil]}},
      {3, {:amend, [flow, euid(), body(), nil]}},
      {3, {:retract, [flow, euid(), nil]}},
      {4, {:settle, [flow]}},
      {3, {:seal, [flow]}},
      {1, {:close, [flow, integer(90, 92)]}}
    ])
  end

  # At once, each of another flow: they come into one group.
  defp burst, do: {:burst, oneof(for n <- 2..5, do: for(flow <- Enum.take(@flows, n), do: verb(flow)))}

  defp item, do: {oneof(@flows), euid(), body()}
  defp euid, do: integer(1, 24)
  defp body, do: integer(0, 255)

  @doc "Blocks, rotations, a retraction, a closing and openings, each at least once."
  def script do
    many = for flow <- ["a", "b"], euid <- 1..4, do: {flow, euid, euid * 40}

    [
      {:append_many, [many]},
      {:append, ["c", 1, 7, nil]},
      {:amend, ["a", 4, 200, nil]},
      {:retract, ["b", 2, nil]},
      {:settle, ["a"]},
      {:tidy, []},
      {:append, ["a", 5, 9, nil]},
      {:seal, ["a"]},
      {:append_many, [for(euid <- 6..12, do: {"a", euid, 9 * euid})]},
      {:settle, ["a"]},
      {:reopen, [:stop]},
      {:burst, [{:settle, ["b"]}, {:append, ["c", 2, 250, nil]}, {:retract, ["a", 1, nil]}]},
      {:close, ["b", 90]},
      {:append, ["d", 1, 111, nil]},
      {:reopen, [:kill]},
      {:append, ["d", 2, 112, nil]},
      {:tidy, []},
      {:close, ["a", 91]},
      {:append, ["d", 3, 113, nil]}
    ]
  end
end
