defmodule EventSeal.Event do
  @moduledoc """
  One thing that happened: when, where and what.

  The same struct goes in and comes out. A caller fills `when`, `where`, `who`, `kind`, `version` and `body` (in a map, a
  keyword list or the struct); what comes out carries the rest as well.

  | field | in | out |
  | --- | --- | --- |
  | `when` | `DateTime`, or integer microseconds since the UNIX epoch, within ±(2⁵³−1) | the integer |
  | `where` | `nil`, `{:place, text}` (1–1024 bytes) or `{:geo, latitude, longitude}` in degrees (±90, ±180) | the same, degrees to seven decimals |
  | `who` | `nil` or text of 1–512 bytes; a claim, not a signature | the same |
  | `kind` | text of 1–255 bytes; a leading `$` is the library's own | the same |
  | `version` | 0–65535, the kind's version; 1 unless given | the same |
  | `body` | binary up to `max_body` bytes, empty unless given | the same, `nil` if it is not there |

  Texts are UTF-8 without control characters and are hashed as they came, never normalised.

  Out only: `flow`, `n` (position; `nil` in the pool), `stage` (`:pool`, `:sandbox`, `:fixed`), `euid`, `recorded_at`
  (µs), `revision`, `late`, `salt`, `commitment`, `hash`, `id` (fixed) or `provisional` (sandbox), `block` (height).
  See FORMAT.md, "Event".
  """

  alias EventSeal.Error

  @time_limit 9_007_199_254_740_991
  @max_body 67_108_864
  @input [:when, :where, :who, :kind, :version, :body]

  defstruct [
    :flow,
    :n,
    :stage,
    :euid,
    :when,
    :recorded_at,
    :where,
    :who,
    :kind,
    :revision,
    :late,
    :salt,
    :commitment,
    :hash,
    :id,
    :provisional,
    :block,
    version: 1,
    body: ""
  ]

  @type stage :: :pool | :sandbox | :fixed
  @type where :: nil | {:place, String.t()} | {:geo, number, number}
  @type t :: %__MODULE__{
          flow: String.t() | nil,
          n: pos_integer | nil,
          stage: stage | nil,
          euid: <<_::128>> | nil,
          when: integer | DateTime.t(),
          recorded_at: integer | nil,
          where: where,
          who: String.t() | nil,
          kind: String.t(),
          version: 0..65_535,
          revision: 0..65_535 | nil,
          late: boolean | nil,
          body: binary | nil,
          salt: <<_::128>> | nil,
          commitment: <<_::256>> | nil,
          hash: <<_::256>> | nil,
          id: <<_::256>> | nil,
          provisional: <<_::256>> | nil,
          block: non_neg_integer | nil
        }

  @typedoc """
  An event as the native part takes it: `{euid, when, recorded_at, revision, kind, version, where, who, salt, body}` with
  `where` as `nil`, a place or `{latitude, longitude}` in units of 10⁻⁷ degrees. What only the writer can know (euid,
  recorded_at, salt) is `nil` until then.
  """
  @type draft ::
          {<<_::128>> | nil, integer, integer | nil, 0..65_535, String.t(), 0..65_535,
           nil | String.t() | {integer, integer}, String.t() | nil, <<_::128>> | nil, binary}

  @doc """
  Checks an event from a caller and returns it as a draft.

  Options: `:euid` (16 bytes; `nil` lets the writer draw one), `:max_body` (bytes, 67,108,864 unless given), `:library`
  (`true` allows kinds that begin with `$`).

      iex> {:ok, draft} = EventSeal.Event.draft(%{when: 0, kind: "vital", body: "37.2"})
      iex> elem(draft, 4)
      "vital"
      iex> {:error, error} = EventSeal.Event.draft(%{when: "yesterday", kind: "vital"})
      iex> Exception.message(error)
      "when: invalid: must be a DateTime or integer microseconds within ±(2^53-1), got a binary"
  """
  @spec draft(t | map | keyword, keyword) :: {:ok, draft} | {:error, Error.t()}
  def draft(event, opts \\ []) do
    with {:ok, fields} <- fields(event),
         {:ok, at} <- time(Map.get(fields, :when)),
         {:ok, where} <- check_where(Map.get(fields, :where)),
         {:ok, who} <- who(Map.get(fields, :who)),
         {:ok, kind} <- kind(Map.get(fields, :kind), Keyword.get(opts, :library, false)),
         {:ok, version} <- version(Map.get(fields, :version, 1)),
         {:ok, body} <- body(Map.get(fields, :body, ""), Keyword.get(opts, :max_body, @max_body)),
         {:ok, euid} <- euid(Keyword.get(opts, :euid)) do
      {:ok, {euid, at, nil, 0, kind, version, where, who, nil, body}}
    end
  end

  @doc "Checks a flow's id: UTF-8 text of 1–512 bytes without control characters."
  @spec check_flow(term) :: {:ok, String.t()} | {:error, Error.t()}
  def check_flow(flow), do: text(:flow, flow, 512)

  @doc """
  A new euid: a UUIDv7 (RFC 9562, section 5.7) of the given microseconds.

      iex> <<millis::48, 7::4, _::12, 2::2, _::62>> = EventSeal.Event.uuid7(1_700_000_000_000_000)
      iex> millis
      1_700_000_000_000
  """
  @spec uuid7(integer, <<_::80>>) :: <<_::128>>
  def uuid7(microseconds, random \\ :crypto.strong_rand_bytes(10)) do
    <<a::12, b::62, _::6>> = random
    <<div(max(microseconds, 0), 1000)::48, 7::4, a::12, 2::2, b::62>>
  end

  defp fields(%__MODULE__{} = event), do: {:ok, Map.take(event, @input)}
  defp fields(%_{} = struct), do: invalid(:event, "must be a map, a keyword list or an EventSeal.Event", struct)

  defp fields(fields) when is_list(fields) do
    if Keyword.keyword?(fields), do: fields(Map.new(fields)), else: not_fields(fields)
  end

  defp fields(fields) when is_map(fields) do
    case Map.keys(fields) -- @input do
      [] -> {:ok, fields}
      [key | _] -> {:error, Error.new(:invalid, field: :event, rule: unknown_key(key))}
    end
  end

  defp fields(other), do: not_fields(other)

  defp not_fields(value), do: invalid(:event, "must be a map, a keyword list or an EventSeal.Event", value)

  # An atom can be shown: it was written in the host's source. Any other key might be a patient's.
  defp unknown_key(key) when is_atom(key) do
    nearest = Enum.max_by(@input, &String.jaro_distance(Atom.to_string(&1), Atom.to_string(key)))
    "unknown field #{inspect(key)}; did you mean #{inspect(nearest)}? Fields are #{inspect(@input)}"
  end

  defp unknown_key(key), do: "a key is #{type(key)}; keys are the atoms #{inspect(@input)}"

  defp time(at) when is_integer(at) and at >= -@time_limit and at <= @time_limit, do: {:ok, at}

  defp time(%DateTime{} = at) do
    with {:error, _} <- time(DateTime.to_unix(at, :microsecond)), do: bad_time(at)
  rescue
    # A struct put together by hand may be no date; what is raised then shows it.
    _ in [ArgumentError, FunctionClauseError] -> bad_time(at)
  end

  defp time(other), do: bad_time(other)

  defp bad_time(value),
    do: invalid(:when, "must be a DateTime or integer microseconds within ±(2^53-1)", value)

  @doc false
  # What the native part read of a frame; the other fields stand elsewhere.
  @spec from_native({binary, tuple, tuple}) :: t
  def from_native({euid, {at, recorded_at, late, revision}, {kind, version, where, who}}) do
    %__MODULE__{
      euid: euid,
      when: at,
      recorded_at: recorded_at,
      late: late,
      revision: revision,
      kind: kind,
      version: version,
      where: where(where),
      who: who
    }
  end

  defp where(nil), do: nil
  defp where({lat, lon}), do: {:geo, lat / 10_000_000, lon / 10_000_000}
  defp where(place), do: {:place, place}

  defp check_where(nil), do: {:ok, nil}
  defp check_where({:place, place}), do: text(:where, place, 1024)

  defp check_where({:geo, lat, lon}) when is_number(lat) and is_number(lon) and abs(lat) <= 90 and abs(lon) <= 180,
    do: {:ok, {round(lat * 10_000_000), round(lon * 10_000_000)}}

  defp check_where(other),
    do: invalid(:where, "must be nil, {:place, text} or {:geo, latitude within ±90, longitude within ±180}", other)

  defp who(nil), do: {:ok, nil}
  defp who(who), do: text(:who, who, 512)

  defp kind("$" <> _, false),
    do: {:error, Error.new(:invalid, field: :kind, rule: "must not begin with $; such kinds are the library's own")}

  defp kind(kind, _), do: text(:kind, kind, 255)

  defp version(version) when version in 0..65_535, do: {:ok, version}
  defp version(other), do: invalid(:version, "must be an integer from 0 to 65535", other)

  defp body(body, max) when is_binary(body) and byte_size(body) <= max, do: {:ok, body}

  defp body(body, max) when is_binary(body),
    do: {:error, Error.new(:invalid, field: :body, rule: "must be at most #{max} bytes, has #{byte_size(body)}")}

  defp body(other, _), do: invalid(:body, "must be a binary", other)

  defp euid(nil), do: {:ok, nil}
  defp euid(<<_::128>> = euid), do: {:ok, euid}
  defp euid(other), do: invalid(:euid, "must be 16 bytes", other)

  defp text(field, text, max) when is_binary(text) do
    cond do
      text == "" or byte_size(text) > max -> length_error(field, text, max)
      not String.valid?(text) -> {:error, Error.new(:invalid, field: field, rule: "must be valid UTF-8")}
      control?(text) -> {:error, Error.new(:invalid, field: field, rule: "must not hold control characters")}
      true -> {:ok, text}
    end
  end

  defp text(field, other, max), do: invalid(field, "must be text of 1 to #{max} bytes", other)

  defp length_error(field, text, max),
    do: {:error, Error.new(:invalid, field: field, rule: "must be 1 to #{max} bytes, has #{byte_size(text)}")}

  defp control?(<<c::utf8, _::binary>>) when c < 0x20 or c in 0x7F..0x9F, do: true
  defp control?(<<_::utf8, rest::binary>>), do: control?(rest)
  defp control?(<<>>), do: false

  defp invalid(field, rule, value),
    do: {:error, Error.new(:invalid, field: field, rule: "#{rule}, got #{type(value)}")}

  @doc false
  def type(value) when is_boolean(value), do: "a boolean"
  def type(nil), do: "nil"
  def type(value) when is_atom(value), do: "an atom"
  def type(value) when is_binary(value), do: "a binary"
  def type(value) when is_integer(value), do: "an integer"
  def type(value) when is_float(value), do: "a float"
  def type(value) when is_list(value), do: "a list"
  def type(%module{}), do: "a #{inspect(module)}"
  def type(value) when is_map(value), do: "a map"
  def type(value) when is_tuple(value), do: "a tuple of #{tuple_size(value)}"
  def type(value) when is_pid(value), do: "a pid"
  def type(value) when is_function(value), do: "a function"
  def type(_), do: "another term"
end

# A body, a salt and whoever acted stay out of logs and crash reports.
defimpl Inspect, for: EventSeal.Event do
  import Inspect.Algebra

  def inspect(event, opts) do
    shown =
      event
      |> Map.from_struct()
      |> Map.drop([:body, :salt, :who, :where])
      |> Enum.reject(fn {_, value} -> is_nil(value) end)
      |> Enum.map(fn {key, value} -> {key, hex(key, value)} end)

    concat(["#EventSeal.Event<", to_doc(shown, opts), ">"])
  end

  defp hex(key, value) when key in [:euid, :commitment, :hash, :id, :provisional] and is_binary(value),
    do: Base.encode16(value, case: :lower)

  defp hex(_, value), do: value
end
