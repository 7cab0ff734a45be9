defmodule EventSeal.OptionsTest do
  use ExUnit.Case, async: true

  alias EventSeal.{Clock, Options, Signer, Store}

  @right [name: Clinic, store: {Store.Disk, dir: "data"}]

  test "defaults are filled in, in groups too" do
    opts = Options.check!(@right ++ [block: [max_age: :infinity]], :start)
    assert opts[:suite] == :sha256
    assert opts[:pool_window] == 300_000
    assert opts[:block] == [max_events: 4096, max_bytes: 8_388_608, max_age: :infinity]
    assert opts[:max_body] == 67_108_864
    assert opts[:clock] == {Clock, nil}
    assert Options.check!([name: Clinic, store: Store.Memory], :start)[:store] == {Store.Memory, []}
  end

  test "what is wrong is named, with its rule and type, and never its value" do
    for {wrong, message} <- [
          {[name: Clinic], "option :store is required"},
          {[suit: :sha256], ~r/unknown option :suit; did you mean :suite\?/},
          {[suite: :md5], "option :suite must be one of :sha256, :blake3, got an atom"},
          {[pool_window: -1], "option :pool_window must be milliseconds, an integer of 0 or more, got an integer"},
          {[pool_window: "secret"], ~r/got a binary$/},
          {[block: [max_event: 1]], ~r/unknown option :max_event; did you mean :max_events\?/},
          {[block: [max_events: 0]], "option :max_events must be an integer from 1 to 1048576, got an integer"},
          {[block: 7], "option :block must be a keyword list, got an integer"},
          {[name: nil], "option :name must be an atom, got nil"},
          {[store: "data"], "option :store must be {module, options}, got a binary"},
          {[clock: 7], "option :clock must be {module, argument}, got an integer"},
          {[writers: 0], "option :writers must be an integer from 1 to 1024, got an integer"},
          {[{"secret", 1}], ~r/must be a keyword list/}
        ] do
      opts = if wrong == [name: Clinic], do: wrong, else: merge(wrong)
      error = assert_raise ArgumentError, fn -> Options.check!(opts, :start) end
      assert error.message =~ message
      refute error.message =~ "secret"
    end
  end

  test "signed receipts are due when two checkpoints could have come, unless it is said otherwise" do
    signer = {Signer, "key"}

    within = fn checkpoints, receipts ->
      [checkpoints: [signer: signer] ++ checkpoints, receipts: [signer: signer] ++ receipts]
      |> Keyword.merge(@right)
      |> Options.start!()
      |> get_in([:receipts, :within])
    end

    assert within.([], []) == 7_200_000
    assert within.([every: 20], []) == 40
    assert within.([every: 20], within: 0) == 0
    assert within.([every: :infinity], within: 7) == 7
    assert Options.start!(@right)[:receipts] == nil

    for {wrong, message} <- [
          {[receipts: [signer: signer]], "option :receipts needs the option :checkpoints"},
          {[receipts: []], "option :signer is required"},
          {[receipts: :signed], "option :receipts must be a keyword list, got an atom"},
          {[receipts: [signer: signer], checkpoints: [signer: signer, every: :infinity]], ~r/needs its :within/}
        ] do
      error = assert_raise ArgumentError, fn -> Options.start!(Keyword.merge(@right, wrong)) end
      assert error.message =~ message
    end
  end

  test "the documentation has every option and its default" do
    docs = Options.docs(:start)
    for {name, _} <- Options.check!(@right ++ [writers: 1], :start), do: assert(docs =~ "* `:#{name}` - ")

    assert docs =~
             "`:pool_window` - how long an event can be amended, in ms; 0: not at all. A shorter one holds for events that wait already, too (default: `300000`)"

    assert docs =~ "    * `:max_age` - "
  end

  test "a time can be given in both forms" do
    at = ~U[2026-01-01 00:00:00.000001Z]

    assert Options.check!([since: at, until: 7], :stream) |> Keyword.take([:since, :until]) ==
             [since: DateTime.to_unix(at, :microsecond), until: 7]

    assert_raise ArgumentError, ~r/must be a list of some of/, fn -> Options.check!([stages: [:poll]], :stream) end
  end

  defp merge([{key, _} | _] = wrong) when is_atom(key), do: Keyword.merge(@right, wrong)
  defp merge(wrong), do: @right ++ wrong
end
