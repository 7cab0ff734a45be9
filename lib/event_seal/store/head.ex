defmodule EventSeal.Store.Head do
  @moduledoc """
  One consistent state of a flow, read from the stored bytes.

    * `flow`, `genesis` - its id and its genesis record
    * `height` - how many blocks are sealed, and so the next block's height
    * `fixed` - the last sealed position, 0 if none is
    * `closed` - whether its last block closed it
    * `last_block` - the packed bytes of the last block, `nil` if there is none
    * `intact` - whether these are the bytes that were written, as far as the store can tell: a verification still looks
      at others, a writer builds nothing upon them
    * `whole` - whether all entries could be read; if not, `entries` are the others
    * `when_max` - the greatest `when` up to `fixed`, as the last block was committed with; `nil` if there is none
    * `next_seq` - the lowest sequence number that was never used, 1 in a new flow
    * `turn` - how often it was changed, in a store that is `EventSeal.Store.shared?/1`; else `nil`
    * `entries` - what is not sealed, `{seq, :pool | :tail, meta, data}`, by ascending `seq`
    * `found` - for each euid that was asked for and is known: `:spent`, or the heights of the blocks that may hold it
  """

  @enforce_keys [:flow, :genesis]
  defstruct [
    :flow,
    :genesis,
    :last_block,
    :when_max,
    :turn,
    height: 0,
    fixed: 0,
    closed: false,
    next_seq: 1,
    entries: [],
    found: %{},
    intact: true,
    whole: true
  ]

  @type entry :: {seq :: non_neg_integer, :pool | :tail, meta :: binary, data :: binary}
  @type t :: %__MODULE__{
          flow: String.t(),
          genesis: binary | nil,
          height: non_neg_integer,
          fixed: non_neg_integer,
          closed: boolean,
          last_block: binary | nil,
          intact: boolean,
          whole: boolean,
          when_max: integer | nil,
          next_seq: pos_integer,
          turn: non_neg_integer | nil,
          entries: [entry],
          found: %{optional(<<_::128>>) => :spent | [non_neg_integer]}
        }
end
