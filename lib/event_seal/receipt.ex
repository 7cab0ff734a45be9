defmodule EventSeal.Receipt do
  @moduledoc """
  What an append is acknowledged with: the event is durable.

  `flow`, `euid` (16 bytes, the event's name from here on), `recorded_at` (the store's clock at its appearance, µs) and
  `revision` (how often it was amended since).
  """
  @enforce_keys [:flow, :euid, :recorded_at, :revision]
  defstruct @enforce_keys

  @type t :: %__MODULE__{flow: String.t(), euid: <<_::128>>, recorded_at: integer, revision: 0..65_535}
end
