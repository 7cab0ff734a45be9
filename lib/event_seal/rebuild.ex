defmodule EventSeal.Rebuild do
  @moduledoc """
  A new verification store (`EventSeal.Apart`) from the events' store: for one that was lost or cut, or for a store that never
  had one.

  The events are verified first, all of them, and against a checkpoint that was kept elsewhere if one is given: without it a
  store that was written anew together with its log would be believed. Nothing is copied of a store that is at fault, nor into
  a verification store that holds anything. Then, for each flow that it keeps, a decision leaf goes into the log of both: from
  here on, and not before, two stores vouch for the flow up to that position. (In the other direction a store whose log or
  digests are damaged is saved by `EventSeal.Doctor`.)

  `verdict` is that of the events' store; `flows`, `blocks`, `leaves` and `checkpoints` count what was copied, nothing if the
  verdict has faults; `decisions` are what the log says of it.
  """

  alias EventSeal.{Decision, Error, Heads, Reader, Store, Verdict, Verifier}
  alias EventSeal.Apart.Copy

  defstruct [:verdict, flows: 0, blocks: 0, leaves: 0, checkpoints: 0, decisions: []]

  @type t :: %__MODULE__{
          verdict: Verdict.t(),
          flows: non_neg_integer,
          blocks: non_neg_integer,
          leaves: non_neg_integer,
          checkpoints: non_neg_integer,
          decisions: [Decision.t()]
        }

  @text "the verification store was rebuilt from the events' store, which was verified"
  @commit 1_000

  @doc """
  Makes `apart`, which is empty, the verification store of `store`; nobody else writes to either meanwhile. Options:
  `:checkpoint` and `:key`, `:threads`, `:max_rate`, `:progress`, as `EventSeal.verify/2`.
  """
  @spec run(Store.t(), Store.t(), keyword) :: {:ok, t} | {:error, Error.t()}
  def run(store, apart, opts \\ []) do
    Reader.reading(fn ->
      with :ok <- empty(apart), {:ok, verdict} <- Verifier.run(store, opts) do
        if Verdict.ok?(verdict), do: copy(store, apart, verdict), else: {:ok, %__MODULE__{verdict: verdict}}
      end
    end)
  end

  defp empty(apart) do
    case {Store.log(apart, :size), Store.flows(apart, nil, 1)} do
      {{:ok, %{leaves: 0, checkpoints: 0}}, {:ok, []}} -> :ok
      {{:ok, _}, {:ok, _}} -> {:error, Error.new(:invalid, field: :verification, rule: "must be an empty store")}
      {{:error, _} = error, _} -> error
      {_, error} -> error
    end
  end

  defp copy(store, apart, verdict) do
    with {:ok, blocks, []} <- Copy.flows(store, apart, Copy.all(store)),
         {:ok, decisions} <- record(store, apart),
         {:ok, size} <- Store.log(store, :size),
         {:ok, leaves, _hashes} <- Copy.leaves(store, apart, 0, size.leaves, fn _hash -> true end),
         {:ok, checkpoints} <- Copy.checkpoints(store, apart, 0, leaves) do
      copied = %__MODULE__{verdict: verdict, flows: length(decisions), blocks: MapSet.size(blocks), leaves: leaves}
      {:ok, %{copied | checkpoints: checkpoints, decisions: decisions}}
    else
      {:ok, _blocks, [{_flow, error} | _more]} -> {:error, error}
      {:error, _} = error -> error
    end
  end

  # The events' store's log has it first, as with every leaf.
  defp record(store, apart) do
    decisions =
      for flow <- Copy.all(apart) do
        case Heads.of(store, flow) do
          {:ok, {chain, head}} -> Decision.new(chain, head, @text)
          {:error, error} -> raise error
        end
      end

    decisions
    |> Enum.chunk_every(@commit)
    |> Error.reduce(decisions, fn some, decisions ->
      with :ok <- Store.commit(store, for(decision <- some, do: {:leaf, decision.leaf})), do: {:ok, decisions}
    end)
  end
end
