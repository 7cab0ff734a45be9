defmodule EventSeal.Faults.Ground do
  @moduledoc false
  # What a store of EventSeal.Faults.Machine stands on, and what can befall it there. A place is the ground's own term.

  @type place :: term
  @type fault :: tuple

  @doc "The faults, as `{weight, PropEr's generator}`; `real` names those that can be made in earnest here."
  @callback faults(real :: [atom]) :: [{pos_integer, term}]
  @doc "How they are called in the table, by the kind under which they strike."
  @callback lines(real :: [atom]) :: [{String.t(), term}]
  @callback fresh(place) :: term
  @doc "The store that the faults strike."
  @callback store(place) :: {module, keyword}
  @callback tidy(store_name :: atom) :: :ok | {:error, EventSeal.Error.t()}
  @doc "Arms a fault; `machine` is told `{:halted, disk | nil}` when the system stops."
  @callback arm(fault, place, machine :: pid, tree :: atom) :: term
  @doc "Whether it is there from the beginning, and not only where an operation meets it."
  @callback real?(fault) :: boolean
  @doc "Ends what lasts."
  @callback release(place) :: term
  @doc "Waits, once a fault has struck, until what the store stands on serves again."
  @callback calm(place) :: term
  @doc "Whether a store that refuses has to be opened anew, or else goes on by itself."
  @callback reopened?() :: boolean
  @doc "The system has stopped: what of it is left then."
  @callback stopped(place, disk :: term) :: term
  @doc "Lets the function look at the stores that others would see, each with how that is."
  @callback probe(place, probes :: [atom] | nil, (how :: term, {module, keyword} -> term)) :: term
end
