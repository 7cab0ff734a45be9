defmodule EventSeal.ReceiptSignerTest do
  # Who signs receipts: what becomes of them when that fails, and what is not to be seen of the key.
  use ExUnit.Case, async: true
  import EventSeal.SigningHost
  import ExUnit.CaptureLog

  alias EventSeal.{Chain, Error, Event, Instance, Native, Receipt, Signer, Store, TokenSigner}

  @moduletag :tmp_dir

  setup context, do: prepare(context)

  describe "a signer that fails" do
    @describetag store: Store.Disk

    test "keeps nothing from being durable: the receipt says that it is not signed, and asking again gets one",
         context do
      %{name: name, path: path, signer: signer} = start(context)
      open = EventSeal.append!(name, "p/1", vital(0))
      TokenSigner.asked(signer)

      log =
        capture_log(fn ->
          File.rename!(path, path <> ".out")

          answers = [
            EventSeal.append(name, "p/1", vital(1), euid: <<1::128>>),
            EventSeal.append(name, "p/1", vital(1), euid: <<1::128>>),
            EventSeal.amend(name, "p/1", open.euid, %{body: "changed"}),
            EventSeal.close(name, "p/1")
          ]

          for answer <- answers do
            assert {:ok, %Receipt{text: nil, key: nil, unsigned: %Error{reason: :storage}}} = answer
          end

          {:ok, many} = EventSeal.append_many(name, for(n <- 2..9, do: {"p/#{n}", vital(n)}))
          for receipt <- many, do: assert(%{text: nil, unsigned: %Error{reason: :storage}} = receipt)
          {:ok, unsigned} = EventSeal.retract(name, "p/2", hd(many).euid)
          assert %{text: nil, unsigned: %Error{}} = unsigned
        end)

      assert log =~ "#{inspect(name)} cannot sign receipts"
      refute log =~ "body 1"
      stop_supervised!(name)
      File.rename!(path <> ".out", path)
      start(context)

      # All of it is there, once each.
      assert [{1, "changed"}, {2, "body 1"}, {3, ""}] =
               for(event <- EventSeal.stream(name, "p/1"), do: {event.n, event.body})

      assert {:ok, receipt} = EventSeal.append(name, "p/1", vital(1), euid: <<1::128>>)
      assert %{standing: :settled, unsigned: nil} = holds(context, receipt)
      assert {:ok, %{accepted: 3, pool: 0}} = EventSeal.head(name, "p/1")
    end

    test "is spoken of when it begins to fail and when that is over, not each time", context do
      %{name: name, path: path} = start(context, writers: 1)

      failing =
        capture_log(fn ->
          File.rename!(path, path <> ".out")
          for n <- 1..5, do: assert(%{unsigned: %Error{}} = EventSeal.append!(name, "p/1", vital(n)))
        end)

      assert failing |> String.split("#{inspect(name)} cannot sign receipts") |> length() == 2

      back =
        capture_log(fn ->
          File.rename!(path <> ".out", path)
          for n <- 6..9, do: holds(context, EventSeal.append!(name, "p/1", vital(n)))
        end)

      assert back |> String.split("#{inspect(name)} signs receipts again") |> length() == 2
    end

    test "by whatever it does tells nothing of what it knows, and the writer lives", context do
      %{name: name, path: path, signer: signer} = start(context, writers: 1)
      {:ok, other, _} = Signer.File.open(other_key(path))
      {:ok, writer, _} = Instance.writer(Instance.fetch!(name), 0)

      log =
        capture_log(fn ->
          for instead <- [
                fn _ -> raise "sesame" end,
                fn _ -> throw("sesame") end,
                fn _ -> exit({:sesame, "sesame"}) end,
                fn _ -> "sesame" end,
                fn _ -> {:ok, "sesame"} end,
                fn _ -> {:ok, :binary.copy("sesame56", 8)} end,
                fn message -> Signer.File.sign(other, message) end,
                fn message -> Signer.File.sign(other, message <> "x") end
              ] do
            TokenSigner.instead(signer, instead)

            assert {:ok, %{text: nil, unsigned: %Error{reason: :unsigned} = error}} =
                     EventSeal.append(name, "p/1", vital(1))

            refute inspect(error) =~ "sesame"
          end
        end)

      refute log =~ "sesame"
      TokenSigner.instead(signer, nil)
      capture_log(fn -> holds(context, EventSeal.append!(name, "p/1", vital(1))) end)
      assert {:ok, ^writer, _} = Instance.writer(Instance.fetch!(name), 0)
      assert {:ok, %{accepted: 9}} = EventSeal.head(name, "p/1")
    end
  end

  describe "plain receipts" do
    @describetag store: Store.Memory

    test "have nothing of a promise, and nobody is asked to sign", context do
      %{name: name} = start(context, receipts: nil)
      receipt = EventSeal.append!(name, "p/1", vital(1))
      empty = [genesis: nil, commitment: nil, standing: nil, deadline: nil, key: nil, text: nil, unsigned: nil]
      assert receipt |> Map.take(Keyword.keys(empty)) |> Enum.sort() == Enum.sort(empty)
      assert TokenSigner.asked(context.signer) == []
    end
  end

  describe "a tree with signed receipts" do
    @describetag store: Store.Memory
    @describetag :capture_log

    test "needs checkpoints, and to know within which time they come", context do
      receipts = [signer: context.signer]
      opts = [name: context.name, store: Store.Memory]

      assert_raise ArgumentError, ~r/needs the option :checkpoints/, fn ->
        EventSeal.start_link([receipts: receipts] ++ opts)
      end

      checkpoints = [signer: {Signer.File, context.log_path}, every: :infinity]

      assert_raise ArgumentError, ~r/needs its :within/, fn ->
        EventSeal.start_link([receipts: receipts, checkpoints: checkpoints] ++ opts)
      end

      start(context, every: :infinity, receipts: [within: 5, signer: context.signer])
      receipt = EventSeal.append!(context.name, "p/1", vital(1))
      assert receipt.deadline == receipt.recorded_at + (window() + 5) * 1_000
    end

    test "does not start with a key of another purpose, or with none", context do
      Process.flag(:trap_exit, true)
      checkpoints = [signer: {Signer.File, context.log_path}]

      for {path, said} <- [{context.log_path, "receipts"}, {context.path <> ".none", "none"}] do
        opts = [
          name: context.name,
          store: Store.Memory,
          checkpoints: checkpoints,
          receipts: [signer: {Signer.File, path}]
        ]

        assert {:error, reason} = EventSeal.start_link(opts)
        assert inspect(reason) =~ said
      end

      opts = [name: context.name, store: Store.Memory, checkpoints: [signer: {Signer.File, context.path}]]
      {:ok, tree} = EventSeal.start_link(opts)
      assert {:error, %Error{reason: :invalid, field: :key}} = EventSeal.checkpoint(context.name)
      Supervisor.stop(tree)
    end

    test "shows the secret of its key in no state, message or store", context do
      %{name: name, path: path} =
        start(context,
          store: {Store.Disk, dir: Path.join(context.tmp_dir, "s")},
          receipts: [signer: {Signer.File, context.path}]
        )

      holds(context, EventSeal.append!(name, "p/1", vital(1)))
      ["PRIVATE", "KEY", _name, _id, secret] = path |> File.read!() |> String.trim() |> String.split("+", parts: 5)
      <<"\xffevent-seal/1 receipt", seed::binary-32>> = Base.decode64!(secret)
      {:ok, writer, _} = Instance.writer(Instance.fetch!(name), Instance.owner(Instance.fetch!(name), "p/1"))

      log =
        capture_log(fn ->
          send(writer, {:"$gen_call", {self(), make_ref()}, {:append, "p/1", {"no draft"}, nil}})
          ref = Process.monitor(writer)
          assert_receive {:DOWN, ^ref, _, _, reason}, 60_000
          refute inspect(reason, limit: :infinity) =~ secret
          Logger.flush()
        end)

      writer = wait_for_writer(name)
      state = :sys.get_state(writer)
      shown = log <> inspect({state, :sys.get_status(writer), Process.info(writer)}, limit: :infinity)
      for hidden <- [secret, inspect(seed), inspect(seed, base: :hex)], do: refute(shown =~ hidden)
      refute :binary.match(:erlang.term_to_binary(state.promises), [seed, secret]) != :nomatch

      for file <- Path.wildcard(Path.join(context.tmp_dir, "s/**")), File.regular?(file) do
        refute :binary.match(File.read!(file), [seed, secret]) != :nomatch
      end
    end
  end

  test "promises are of frames, and of nothing else" do
    {:ok, {_, frame}} = frame()
    promised = {:sha256, <<1::256>>, frame, :pool, 9_007_199_254_740_991}
    assert {:ok, {group, text}} = Native.receipts_group([promised], 1)
    assert {:error, {:refused, :signature}} = Native.receipts_signed(group, receipts_key(), <<0::512>>, 1)
    assert text =~ "count 1\n"
    for work <- [1, 1_000_000], do: assert({:ok, {_, ^text}} = Native.receipts_group([promised], work))
    assert {:error, {:malformed, _, _}} = Native.receipts_group([put_elem(promised, 2, "frame")], 1)
    assert {:error, {:malformed, _, "deadline"}} = Native.receipts_group([put_elem(promised, 4, -1)], 1)
    assert_raise ArgumentError, fn -> Native.receipts_group([], 1) end
  end

  defp wait_for_writer(name, tries \\ 500) do
    instance = Instance.fetch!(name)

    with {:ok, pid, _} <- Instance.writer(instance, Instance.owner(instance, "p/1")), true <- Process.alive?(pid) do
      pid
    else
      _ when tries > 0 -> Process.sleep(10) && wait_for_writer(name, tries - 1)
    end
  end

  defp other_key(path) do
    {:ok, _} = Signer.File.generate(path <> ".other", "clinic.example/receipts", :receipts)
    path <> ".other"
  end

  defp receipts_key do
    {:ok, {_secret, key}} = Native.key_texts("clinic.example/receipts", :receipts, <<1::256>>)
    key
  end

  defp frame do
    {:ok, draft} = Event.draft(%{when: 0, kind: "vital"})
    draft = Chain.stamp(draft, euid: <<1::128>>, recorded_at: 0, salt: <<0::128>>)
    {:ok, [{frame, _body}]} = Chain.frames(:sha256, [draft])
    {:ok, {draft, frame}}
  end
end
