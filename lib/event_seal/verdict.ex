defmodule EventSeal.Verdict do
  @moduledoc """
  What a verification found: counts, and a list of faults.

    * `flows`, `blocks`, `events`, `fixed`, `provisional` - how many were looked at
    * `bodies_verified` - bodies whose commitment was recomputed
    * `bodies_not_shown` - bodies that were not there to be checked; never counted as verified
    * `bytes` - packed bytes read
    * `leaves` - leaves of the store-wide log that were held against the store; nil if only a part of it was verified
    * `unknown_leaves` - those among them of a type that this version does not know
    * `checkpoint` - the size of the last stored checkpoint; nil if there is none, or if the log is not what it says
    * `stamp` - of the newest checkpoint with a time stamp that holds, an `EventSeal.Stamp`; nil if there is none
    * `since` - the size of the checkpoint since which was verified (`since:`), if the log holds it; else nil
    * `unseen` - how many events it covers that were not looked at, but for what the log says of them
    * `covered` - how many of the `events` it covers: who keeps it elsewhere can show later that these were there
    * `kept` - blocks that were compared with a verification store; nil without one. `behind` - blocks and leaves among them
      that it has not got yet
    * `faults` - `EventSeal.Fault`s, the lowest position of each flow first; capped, `fault_count` is not
    * `damage` - places of the store's files that could not be read as they were written when it was opened,
      `%{what: atom, file: name, offset: integer | nil}`: what stood there was not verified
    * `next` - where the time that was given ran out: the flow after which to go on; else nil
    * `microseconds` - how long it took
  """
  defstruct flows: 0,
            blocks: 0,
            events: 0,
            fixed: 0,
            provisional: 0,
            bodies_verified: 0,
            bodies_not_shown: 0,
            bytes: 0,
            leaves: nil,
            unknown_leaves: 0,
            checkpoint: nil,
            stamp: nil,
            since: nil,
            unseen: 0,
            covered: 0,
            kept: nil,
            behind: 0,
            fault_count: 0,
            faults: [],
            damage: [],
            next: nil,
            microseconds: 0

  @type t :: %__MODULE__{
          flows: non_neg_integer,
          blocks: non_neg_integer,
          events: non_neg_integer,
          fixed: non_neg_integer,
          provisional: non_neg_integer,
          bodies_verified: non_neg_integer,
          bodies_not_shown: non_neg_integer,
          bytes: non_neg_integer,
          leaves: non_neg_integer | nil,
          unknown_leaves: non_neg_integer,
          checkpoint: non_neg_integer | nil,
          stamp: EventSeal.Stamp.t() | nil,
          since: non_neg_integer | nil,
          unseen: non_neg_integer,
          covered: non_neg_integer,
          kept: non_neg_integer | nil,
          behind: non_neg_integer,
          fault_count: non_neg_integer,
          faults: [EventSeal.Fault.t()],
          damage: [%{what: atom, file: String.t(), offset: non_neg_integer | nil}],
          next: String.t() | nil,
          microseconds: non_neg_integer
        }

  @sums [:flows, :blocks, :events, :fixed, :provisional, :bodies_verified, :bodies_not_shown, :bytes] ++
          [:unknown_leaves, :unseen, :covered, :behind, :fault_count]

  @doc """
  Whether nothing was found: no fault, and no damage.

      iex> EventSeal.Verdict.ok?(%EventSeal.Verdict{})
      true
  """
  @spec ok?(t) :: boolean
  def ok?(%__MODULE__{fault_count: count, damage: damage}), do: count == 0 and damage == []

  @doc "Adds the verdict of what comes after to a verdict; at most `max_faults` faults are kept."
  @spec add(t, t, pos_integer) :: t
  def add(%__MODULE__{} = verdict, %__MODULE__{} = next, max_faults \\ 1_000) do
    kept = verdict.faults ++ Enum.take(next.faults, max(max_faults - length(verdict.faults), 0))
    summed = Map.new(@sums, &{&1, Map.fetch!(verdict, &1) + Map.fetch!(next, &1)})

    struct!(
      %{
        verdict
        | faults: kept,
          damage: verdict.damage ++ next.damage,
          next: next.next || verdict.next,
          leaves: next.leaves || verdict.leaves,
          checkpoint: next.checkpoint || verdict.checkpoint,
          stamp: next.stamp || verdict.stamp,
          since: next.since || verdict.since,
          kept: if(verdict.kept || next.kept, do: (verdict.kept || 0) + (next.kept || 0)),
          microseconds: verdict.microseconds + next.microseconds
      },
      summed
    )
  end
end

defmodule EventSeal.Fault do
  @moduledoc """
  One fault that a verification found.

  `flow`, `position` (the lowest position it concerns), `block` (height, or `nil`), `class`, and what is `recorded`
  beside what was `recomputed`: digests of 32 bytes, integers, or `nil` where there is nothing to show.

  Each layer is recomputed from the recorded layer below it, so the class says where the fault was made:

  | class | what does not hold |
  | --- | --- |
  | `:read` | the stored bytes could not be read |
  | `:format` | bytes that are not of format 1 |
  | `:genesis` | the genesis is not that of the flow's other blocks |
  | `:height`, `:position` | a block or an event is missing, doubled or out of place |
  | `:commitment` | salt or body, against the commitment |
  | `:body_missing` | a body was removed without a recorded erasure |
  | `:event_hash` | when, where, who, kind, … or the commitment, against the event hash |
  | `:late`, `:recorded_at`, `:sealed_at`, `:epoch`, `:when_range` | a flag, or a time or term that fell |
  | `:id`, `:provisional` | the link to the three events before and the three after |
  | `:root`, `:block_hash` | the block's Merkle root; its header |
  | `:previous`, `:seam` | the block before; the events on the other side of a block's edge |
  | `:close` | events after the closing, or a closing that is none |
  | `:missing` | blocks or events that should be there are not |
  | `:log` | the store-wide log, against what is stored: a block or an end of a flow that is not there, or not what the log says, a block of which it says nothing, leaves that disagree; `recorded` is what the log says |
  | `:checkpoint` | a stored checkpoint that cannot be read; or, of two stores that have it, that is another |
  | `:row` | a row of a database that belongs to no flow, block or log, or that no writer leaves behind |
  | `:tables` | a database's tables are not as they were made: what refuses change, who may do what, a key, a column |
  | `:rolled_back` | a head or a checkpoint that is known from elsewhere: `recorded` is what is stored, `recomputed` what is known |

  `row` says where it lies, in a store that knows (`EventSeal.Store.Postgres`): `event_seal.event (flow 7, n 3)`, by the table's
  key, in which a flow has a number; `not there` behind it says that there is no such row. A fault of the tables has the flow
  `tables`, a row of a flow that is not there has the number in the place of the flow's id: `flow 7`.

  A flow that is not there bears `genesis` and its genesis digest in the place of its id. A fault of the log as a whole has the
  flow `log`: its position is a leaf's index or, against a checkpoint, that checkpoint's size.

  ## Two stores

  Where there is a verification store (`EventSeal.Apart`), what it has and what the events' store has are compared, and a fault
  that this finds has a `side`: which of the two is wrong. `recorded` is then what the events' store has, `recomputed` what
  the verification store has, and nil what one of them has not. The class says what differs.

  | side | |
  | --- | --- |
  | `:events` | the events' store: its own bytes do not hold, or it has not what the log and a checkpoint say |
  | `:verification` | the verification store, likewise |
  | `:both` | neither holds |
  | `:either` | both hold, they disagree: one was written anew whole, and no checkpoint says which |

  Of leaves and checkpoints the flow is `log`, the position their index, and shown is the hash (of a leaf, that of the log's
  tree); of how many there are, `:missing`, the numbers. A verification store that cannot be read has the flow
  `verification store`.
  """
  defstruct [:flow, :position, :block, :class, :recorded, :recomputed, :side, :row]

  @type class ::
          :read
          | :format
          | :genesis
          | :height
          | :position
          | :commitment
          | :body_missing
          | :event_hash
          | :late
          | :recorded_at
          | :sealed_at
          | :epoch
          | :when_range
          | :id
          | :provisional
          | :root
          | :block_hash
          | :previous
          | :seam
          | :close
          | :missing
          | :log
          | :checkpoint
          | :rolled_back
          | :row
          | :tables

  @type datum :: <<_::256>> | integer | nil
  @type t :: %__MODULE__{
          flow: String.t(),
          position: non_neg_integer,
          block: non_neg_integer | nil,
          class: class,
          recorded: datum,
          recomputed: datum,
          side: EventSeal.Kept.side() | nil,
          row: String.t() | nil
        }

  @doc """
  The fault in one line.

      iex> fault = %EventSeal.Fault{flow: "patient/1", position: 7, block: 0, class: :when_range, recorded: 3, recomputed: 5}
      iex> EventSeal.Fault.to_line(fault)
      "patient/1 position 7 block 0 when_range: recorded 3, recomputed 5"
      iex> EventSeal.Fault.to_line(%{fault | side: :events})
      "patient/1 position 7 block 0 when_range: events' store 3, verification store 5; the events' store is wrong"
      iex> EventSeal.Fault.to_line(%{fault | row: "event_seal.block (flow 1, height 0)"})
      "patient/1 position 7 block 0 when_range: recorded 3, recomputed 5; event_seal.block (flow 1, height 0)"
  """
  @spec to_line(t) :: String.t()
  def to_line(%__MODULE__{} = fault) do
    block = if fault.block, do: " block #{fault.block}", else: ""

    [recorded, recomputed] = names(fault)

    "#{fault.flow} position #{fault.position}#{block} #{fault.class}: " <>
      "#{recorded} #{datum(fault.recorded)}, #{recomputed} #{datum(fault.recomputed)}" <>
      Enum.map_join(notes(fault), &"; #{&1}")
  end

  @doc "What is to be said of it besides: the side that is wrong, and the row."
  @spec notes(t) :: [String.t()]
  def notes(fault), do: Enum.reject([fault.side && side(fault.side), fault.row], &is_nil/1)

  @doc "What `recorded` and `recomputed` are, in words."
  @spec names(t) :: [String.t()]
  def names(%__MODULE__{side: nil, class: :rolled_back}), do: ["recorded", "known"]
  def names(%__MODULE__{side: nil}), do: ["recorded", "recomputed"]
  def names(%__MODULE__{}), do: ["events' store", "verification store"]

  @doc "A fault's side in words."
  @spec side(EventSeal.Kept.side()) :: String.t()
  def side(:events), do: "the events' store is wrong"
  def side(:verification), do: "the verification store is wrong"
  def side(:both), do: "neither store holds"
  def side(:either), do: "both hold, they disagree"

  defp datum(nil), do: "nothing"
  defp datum(digest) when is_binary(digest), do: Base.encode16(digest, case: :lower)
  defp datum(integer), do: Integer.to_string(integer)
end
