defmodule EventSeal.Options do
  @moduledoc false
  # One schema for each set of options: it checks them, fills in defaults, and writes their documentation. A wrong option
  # is a programmer's mistake and raises ArgumentError; the message names the option, the rule and the value's type.

  alias EventSeal.{Clock, Event}

  @mebibyte 1_048_576
  @greatest 9_007_199_254_740_991

  @queue [
    max_events: [type: :positive, default: 10_000, doc: "events"],
    max_bytes: [type: :positive, default: 256 * @mebibyte, doc: "bytes of bodies, and some 256 for each event"]
  ]

  @pool [
    max_events: [type: :positive, default: 1_000_000, doc: "events"],
    max_bytes: [type: :positive, default: 1024 * @mebibyte, doc: "bytes of frames and bodies"]
  ]

  @block [
    max_events: [
      type: {:integer, 1, 1_048_576},
      default: 4096,
      doc: "seal when so many events can be fixed; 512 or more that come together are sealed at once, too"
    ],
    max_bytes: [type: :positive, default: 8 * @mebibyte, doc: "or so many bytes are unsealed"],
    max_age: [
      type: :wait,
      default: 60_000,
      doc: "or so many ms after the first that could be fixed; `:infinity`: never"
    ]
  ]

  @checkpoints [
    signer: [
      type: :signer,
      required: true,
      doc: "who signs, `{EventSeal.Signer.File, \"log.key\"}`; see `EventSeal.Signer`"
    ],
    every: [type: :wait, default: 3_600_000, doc: "how often, in ms; `:infinity`: only when asked"]
  ]

  @receipts [
    signer: [
      type: :signer,
      required: true,
      doc: "who signs them, `{EventSeal.Signer.File, \"receipts.key\"}`: a key for receipts, and for nothing else"
    ],
    within: [
      type: :milliseconds,
      doc:
        "how long after an event has settled a checkpoint covers it at the latest, in ms; twice `:every` of " <>
          "`:checkpoints` unless given"
    ]
  ]

  @audit [
    file: [type: :path, required: true, doc: "where it notes how far it has come; kept apart from the store's folder"],
    pause: [type: :milliseconds, default: 0, doc: "how long it rests between two passes, in ms"],
    threads: [type: :positive, default: 1, doc: "how many threads"],
    max_rate: [type: :rate, doc: "at most so many a second, `{count, :events}` or `{count, :bytes}`"],
    anchors: [
      type: :anchors,
      doc:
        "the certificates of time-stamp authorities whose stamps `EventSeal.health/1` shows, a PEM file or a list of their DER"
    ]
  ]

  @schemas %{
    start: [
      name: [type: :atom, required: true, doc: "what the verbs call it by; its supervisor is registered so"],
      store: [type: :store, required: true, doc: "the adapter and its options, `{EventSeal.Store.Disk, dir: \"data\"}`"],
      suite: [type: {:in, [:sha256, :blake3]}, default: :sha256, doc: "the hash functions of flows that begin"],
      pool_window: [
        type: :milliseconds,
        default: 300_000,
        doc:
          "how long an event can be amended, in ms; 0: not at all. A shorter one holds for events that wait already, too"
      ],
      block: [type: {:options, @block}, doc: "when what can be fixed is sealed"],
      queue: [type: {:options, @queue}, doc: "what may wait at one writer before `:overloaded`"],
      pool: [type: {:options, @pool}, doc: "what may be held unsealed before `:overloaded`"],
      max_body: [type: {:integer, 0, 2_147_483_647}, default: 64 * @mebibyte, doc: "the longest body, in bytes"],
      writers: [type: {:integer, 1, 1024}, doc: "how many writers share the flows; twice the schedulers unless given"],
      timeout: [type: :wait, default: 60_000, doc: "how long a verb waits for its writer, in ms"],
      checkpoints: [
        type: {:section, @checkpoints},
        doc: "has checkpoints of the store-wide log signed; none are unless this is given"
      ],
      receipts: [
        type: {:section, @receipts},
        doc: "has receipts signed (`EventSeal.Receipt`); needs `:checkpoints`; they are plain unless this is given"
      ],
      verification: [
        type: :store,
        doc:
          "a second store that keeps what verifies the first, apart from it: the adapter and its options; see `EventSeal.Apart`"
      ],
      audit: [type: {:section, @audit}, doc: "has everything verified again and again; see `EventSeal.health/1`"],
      clock: [type: :clock, default: {Clock, nil}, doc: "the clock, `{module, argument}`; see `EventSeal.Clock`"]
    ],
    append: [
      euid: [type: :any, doc: "16 bytes that name the event; drawn (UUIDv7) unless given"],
      expect: [type: :count, doc: "how many events the flow must have accepted so far, the pool included"]
    ],
    change: [
      revision: [type: {:integer, 0, 65_535}, doc: "the revision that the event must have"]
    ],
    close: [
      when: [type: :any, doc: "when it ended; now unless given"],
      where: [type: :any, doc: "as in `EventSeal.Event`"],
      who: [type: :any, doc: "as in `EventSeal.Event`"],
      body: [type: :any, doc: "as in `EventSeal.Event`"],
      euid: [type: :any, doc: "16 bytes that name the closing event; drawn unless given"],
      expect: [type: :count, doc: "how many events the flow must have accepted so far, the pool included"]
    ],
    await: [
      timeout: [type: :wait, default: 120_000, doc: "how long to wait, in ms"]
    ],
    stream: [
      from: [type: :positive, default: 1, doc: "the first position"],
      to: [type: :position, default: :infinity, doc: "the last position; the pool comes only with `:infinity`"],
      since: [type: :time, doc: "only events whose `when` is not before this `DateTime` or these µs"],
      until: [type: :time, doc: "only events whose `when` is not after this"],
      stages: [type: {:subset, [:fixed, :sandbox, :pool]}, default: [:fixed, :sandbox, :pool], doc: "only these stages"]
    ],
    flows: [
      after: [type: :any, doc: "begin after this flow id"],
      page: [type: :positive, default: 1_000, doc: "how many ids are read at a time"]
    ],
    prove: [
      disclose: [type: :boolean, default: false, doc: "whether the proof shows the body, or only its commitment"]
    ],
    packet: [
      range: [type: :range, doc: "only blocks with positions of `first..last`; without it to the end, the tail too"],
      since: [type: :time, doc: "only blocks with a `when` that is not before this `DateTime` or these µs"],
      until: [type: :time, doc: "only blocks with a `when` that is not after this"],
      disclose: [
        type: :disclose,
        default: false,
        doc: "which bodies show: none (`false`), all (`true`), or those at a list of positions"
      ]
    ],
    stamp: [
      size: [type: :count, doc: "of the checkpoint with so many leaves; of the last one unless given"],
      policy: [
        type: :text,
        doc: "the policy under which it must be stamped, such as `\"1.2.3.4\"`; the authority's choice unless given"
      ]
    ],
    add_stamp: [
      anchors: [
        type: :anchors,
        required: true,
        doc: "the certificates of authorities that are trusted: a PEM file, or a list of their DER"
      ]
    ],
    verify: [
      flow: [type: :any, doc: "one flow only"],
      range: [
        type: :range,
        doc: "positions `first..last` of that flow, checked alone; `:not_found` if no event stands there"
      ],
      since: [
        type: :since,
        doc:
          "a position of that flow up to which it was verified before: only what came later is checked, and that it still " <>
            "stands. Or, of the whole store, an `EventSeal.Checkpoint` or its text, with `:key`: only what it does not cover"
      ],
      after: [type: :any, doc: "only the flows behind this one, in byte order: the `next` of an earlier verdict"],
      for: [
        type: :milliseconds,
        doc: "begin no further flow after so many ms; the verdict's `next` says after which one to go on"
      ],
      head: [
        type: :path,
        doc: "a file of `EventSeal.Heads` from an earlier time: what it knows and the store has not is `:rolled_back`"
      ],
      checkpoint: [
        type: :path,
        doc:
          "a file with a checkpoint of this store's log that was kept elsewhere: a log that is shorter is `:rolled_back`, " <>
            "one that does not begin so is a fault `:log`"
      ],
      key: [type: :keys, doc: "the verifier key of the log by which the checkpoint is believed, or all that it had"],
      anchors: [
        type: :anchors,
        doc:
          "the certificates of time-stamp authorities that are trusted, a PEM file or a list of their DER: a checkpoint must " <>
            "have been stamped by one of them, else the answer is `:untrusted`"
      ],
      progress: [
        type: {:function, 1},
        doc:
          "called with `%{flows: …, events: …, bytes: …}` some ten times a second; where it returns `:cancel`, `:cancelled` is the answer"
      ],
      threads: [type: :positive, doc: "how many threads; as many as there are cores unless given"],
      max_rate: [
        type: :rate,
        doc: "the most to be verified a second, `{20_000, :events}` or `{50_000_000, :bytes}`; no limit unless given"
      ],
      max_faults: [type: :positive, default: 1_000, doc: "how many faults the verdict lists; all are counted"]
    ]
  }

  @type schema ::
          :start
          | :append
          | :change
          | :close
          | :await
          | :stream
          | :flows
          | :prove
          | :packet
          | :stamp
          | :add_stamp
          | :verify

  @doc "The options with their defaults, or ArgumentError."
  @spec check!(keyword, schema) :: keyword
  def check!(opts, schema), do: check(opts, Map.fetch!(@schemas, schema), nil)

  @doc "The options of a tree, with what follows from several of them."
  @spec start!(keyword) :: keyword
  def start!(opts) do
    opts = check!(opts, :start)
    if opts[:receipts], do: put_in(opts[:receipts][:within], within!(opts[:receipts], opts[:checkpoints])), else: opts
  end

  # Twice: that a checkpoint falls out, or is late, breaks no promise.
  defp within!(receipts, checkpoints) do
    case {receipts[:within], checkpoints[:every]} do
      {_, nil} -> refuse(:receipts, "needs the option :checkpoints")
      {nil, :infinity} -> refuse(:receipts, "needs its :within where checkpoints are signed only when asked")
      {nil, every} -> 2 * every
      {within, _every} -> within
    end
  end

  @doc "The options of a schema as a Markdown list."
  @spec docs(schema) :: String.t()
  def docs(schema), do: @schemas |> Map.fetch!(schema) |> list("  ")

  defp list(schema, indent), do: Enum.map_join(schema, "\n", &item(&1, indent))

  defp item({name, [{:type, {kind, inner}} | spec]}, indent) when kind in [:options, :section],
    do: "#{indent}* `:#{name}` - #{spec[:doc]}:\n#{list(inner, indent <> "  ")}"

  defp item({name, spec}, indent), do: "#{indent}* `:#{name}` - #{spec[:doc]}#{note(spec)}"

  defp note(spec) do
    cond do
      spec[:required] -> " (required)"
      Keyword.has_key?(spec, :default) and spec[:type] != :clock -> " (default: `#{inspect(spec[:default])}`)"
      true -> ""
    end
  end

  defp check(opts, schema, within) do
    unless Keyword.keyword?(opts), do: refuse(within, "must be a keyword list, got #{Event.type(opts)}")
    Enum.each(opts, fn {name, _} -> Keyword.has_key?(schema, name) or unknown(name, schema) end)
    Enum.flat_map(schema, fn {name, spec} -> option(name, spec, Keyword.fetch(opts, name)) end)
  end

  defp option(name, spec, {:ok, value}), do: [{name, value(name, spec[:type], value)}]

  defp option(name, spec, :error) do
    case spec do
      [{:type, {:options, inner}} | _] -> [{name, check([], inner, name)}]
      _ -> default(name, spec)
    end
  end

  defp default(name, spec) do
    if spec[:required], do: raise(ArgumentError, "option #{inspect(name)} is required")
    spec |> Keyword.take([:default]) |> Enum.map(fn {:default, value} -> {name, value} end)
  end

  defp value(name, {kind, inner}, value) when kind in [:options, :section], do: check(value, inner, name)
  defp value(_name, :any, value), do: value
  defp value(_name, :store, module) when is_atom(module) and module not in [nil, true, false], do: {module, []}
  defp value(_name, :clock, module) when is_atom(module) and module not in [nil, true, false], do: {module, nil}
  defp value(_name, :since, %{note: note}) when is_binary(note), do: note
  defp value(_name, :time, %DateTime{} = at), do: DateTime.to_unix(at, :microsecond)

  defp value(name, type, value) do
    if valid?(type, value), do: value, else: refuse(name, "must be #{rule(type)}, got #{Event.type(value)}")
  end

  defp valid?(:atom, value), do: is_atom(value) and value not in [nil, true, false]
  defp valid?(:path, value), do: is_binary(value) and value != ""
  defp valid?(:keys, value), do: value != [] and value |> List.wrap() |> Enum.all?(&is_binary/1)
  defp valid?(:since, value), do: is_binary(value) or valid?(:count, value)
  defp valid?(:anchors, value), do: valid?(:keys, value)
  defp valid?(:text, value), do: is_binary(value)
  defp valid?(:boolean, value), do: is_boolean(value)
  defp valid?(:positive, value), do: is_integer(value) and value > 0
  defp valid?(:count, value), do: is_integer(value) and value >= 0
  defp valid?(:milliseconds, value), do: is_integer(value) and value >= 0
  defp valid?(:wait, value), do: value == :infinity or valid?(:milliseconds, value)
  defp valid?(:position, value), do: value == :infinity or valid?(:positive, value)
  defp valid?(:disclose, value), do: is_boolean(value) or (is_list(value) and Enum.all?(value, &valid?(:positive, &1)))
  defp valid?(:time, value), do: is_integer(value)
  defp valid?({:integer, from, to}, value), do: is_integer(value) and value in from..to
  defp valid?({:in, values}, value), do: value in values
  defp valid?({:subset, values}, value), do: is_list(value) and value != [] and Enum.all?(value, &(&1 in values))
  defp valid?({:function, arity}, value), do: is_function(value, arity)
  defp valid?(:range, %Range{first: first, last: last, step: 1}), do: first >= 1 and last >= first
  defp valid?(:rate, {count, unit}), do: unit in [:events, :bytes] and is_integer(count) and count in 1..@greatest
  defp valid?(:store, {module, opts}), do: is_atom(module) and Keyword.keyword?(opts)
  defp valid?(kind, {module, _argument}) when kind in [:clock, :signer], do: is_atom(module)
  defp valid?(_type, _value), do: false

  defp rule(:atom), do: "an atom"
  defp rule(:path), do: "a path"
  defp rule(:keys), do: "a verifier key's text, or a list of them"
  defp rule(:since), do: "a position or a checkpoint"
  defp rule(:anchors), do: "the path of a PEM file, or a list of certificates, DER"
  defp rule(:text), do: "a text"
  defp rule(:boolean), do: "true or false"
  defp rule(:positive), do: "a positive integer"
  defp rule(:count), do: "an integer of 0 or more"
  defp rule(:milliseconds), do: "milliseconds, an integer of 0 or more"
  defp rule(:wait), do: "milliseconds, an integer of 0 or more, or :infinity"
  defp rule(:position), do: "a positive integer or :infinity"
  defp rule(:disclose), do: "true, false or a list of positions"
  defp rule(:time), do: "a DateTime or integer microseconds"
  defp rule({:integer, from, to}), do: "an integer from #{from} to #{to}"
  defp rule({:in, values}), do: "one of #{Enum.map_join(values, ", ", &inspect/1)}"
  defp rule({:subset, values}), do: "a list of some of #{Enum.map_join(values, ", ", &inspect/1)}"
  defp rule({:function, arity}), do: "a function of #{arity} argument"
  defp rule(:range), do: "a range first..last of positions"
  defp rule(:rate), do: "{count, :events} or {count, :bytes}, a count of 1 to 2^53 - 1 a second"
  defp rule(:store), do: "{module, options}"
  defp rule(kind) when kind in [:clock, :signer], do: "{module, argument}"

  @spec unknown(term, keyword) :: no_return
  defp unknown(name, schema) do
    known = Keyword.keys(schema)
    nearest = Enum.max_by(known, &String.jaro_distance(Atom.to_string(&1), Atom.to_string(name)))

    raise ArgumentError,
          "unknown option #{inspect(name)}; did you mean #{inspect(nearest)}? Options are #{inspect(known)}"
  end

  @spec refuse(atom, String.t()) :: no_return
  defp refuse(nil, rule), do: raise(ArgumentError, "options #{rule}")
  defp refuse(name, rule), do: raise(ArgumentError, "option #{inspect(name)} #{rule}")
end
