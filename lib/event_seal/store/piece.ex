defmodule EventSeal.Store.Piece do
  @moduledoc """
  Where a sealed block lies: in memory (`{:binary, bytes}`), or as a range of a file (`{:file, path, offset, length}`).

  A file range is pinned: segments are only ever appended to, so it stays readable while commits go on. `first` and
  `count` are the positions it holds, `height` its place among the flow's blocks.
  """

  @enforce_keys [:height, :first, :count, :at]
  defstruct [:height, :first, :count, :at]

  @type t :: %__MODULE__{
          height: non_neg_integer,
          first: pos_integer,
          count: pos_integer,
          at: {:binary, binary} | {:file, Path.t(), offset :: non_neg_integer, length :: pos_integer}
        }
end
