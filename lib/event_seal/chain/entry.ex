defmodule EventSeal.Chain.Entry do
  @moduledoc """
  A settled event that no block holds yet: its position, euid, frame, event hash, provisional id and salted body (`nil` if
  it is not there).
  """
  @enforce_keys [:n, :euid, :frame, :hash, :provisional, :body]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          n: pos_integer,
          euid: <<_::128>>,
          frame: binary,
          hash: <<_::256>>,
          provisional: <<_::256>>,
          body: binary | nil
        }
end

defimpl Inspect, for: EventSeal.Chain.Entry do
  def inspect(entry, _opts), do: "#EventSeal.Chain.Entry<#{entry.n} #{Base.encode16(entry.euid, case: :lower)}>"
end
