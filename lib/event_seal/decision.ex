defmodule EventSeal.Decision do
  @moduledoc """
  A decision leaf of the log (FORMAT.md, "Log"): on record that a flow was restored, and as what. Whoever has its salt and text
  can check the leaf's digest.
  """

  alias EventSeal.{Chain, Event, Heads, Native}

  @enforce_keys [:genesis, :n, :salt, :text, :leaf]
  defstruct [:genesis, :n, :salt, :text, :leaf]

  @type t :: %__MODULE__{
          genesis: <<_::256>>,
          n: pos_integer,
          salt: <<_::128>>,
          text: String.t(),
          leaf: binary
        }

  @doc "A decision on a flow as it stands: `head` is its last settled position."
  @spec new(Chain.t(), Heads.head(), String.t()) :: t
  def new(chain, %{n: n, provisional: provisional}, text) when n > 0 do
    salt = :crypto.strong_rand_bytes(16)
    {:ok, draft} = Event.draft(%{when: 0, kind: "decision", body: text}, [])
    draft = Chain.stamp(draft, recorded_at: 0, salt: salt, euid: <<0::128>>)
    {:ok, [{<<_::binary-32, digest::binary-32, _::binary>>, _body}]} = Chain.frames(chain.suite, [draft])
    leaf = Native.decision_leaf(chain.suite, chain.digest, n, provisional, digest)
    %__MODULE__{genesis: chain.digest, n: n, salt: salt, text: text, leaf: leaf}
  end

  @doc "A line of a report that keeps it."
  @spec to_line(t) :: String.t()
  def to_line(%__MODULE__{} = decision) do
    [genesis, salt] = for digest <- [decision.genesis, decision.salt], do: Base.encode16(digest, case: :lower)
    "decision #{genesis} #{decision.n} #{salt} #{decision.text}"
  end
end
