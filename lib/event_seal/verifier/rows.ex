defmodule EventSeal.Verifier.Rows do
  @moduledoc false
  # Where faults lie, by the names that their store has for its places. It is asked once, when all is verified.

  alias EventSeal.{Store, Verdict}

  @doc "The verdict with its faults' rows; of two stores, in the one that is wrong. A fault without one is a fault all the same."
  @spec named(Verdict.t(), Store.t(), Store.t() | nil) :: Verdict.t()
  def named(verdict, store, apart) do
    {kept, events} = verdict.faults |> Enum.filter(&is_nil(&1.row)) |> Enum.split_with(&(&1.side == :verification))
    rows = Map.merge(rows(store, events), rows(apart, kept))
    %{verdict | faults: for(fault <- verdict.faults, do: %{fault | row: fault.row || rows[fault]})}
  end

  defp rows(_store, []), do: %{}

  defp rows(store, faults) do
    with {:ok, rows} <- Store.rows(store, faults), do: Map.new(Enum.zip(faults, rows)), else: (_unreadable -> %{})
  catch
    # A store that is gone is a fault by itself.
    :exit, _ -> %{}
  end
end
