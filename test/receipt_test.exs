defmodule EventSeal.ReceiptTest do
  # What is promised with a signed receipt, and what a proof says of it later.
  use ExUnit.Case, async: true
  import EventSeal.SigningHost

  alias EventSeal.{Error, Instance, ManualClock, Receipt, Signer, SigningHost, Store, TokenSigner}

  @moduletag :tmp_dir
  @window SigningHost.window()
  @within 2 * SigningHost.every() * 1_000

  setup context, do: prepare(context)

  for {label, store} <- [{"Memory", Store.Memory}, {"Disk", Store.Disk}] do
    describe "over #{label}:" do
      @describetag store: store

      test "every verb that gives a receipt gives a signed promise", context do
        %{name: name, clock: clock} = start(context)
        appended = EventSeal.append!(name, "p/1", vital(1))
        assert %{standing: :pool, revision: 0} = holds(context, appended)
        assert appended.deadline == appended.recorded_at + @window * 1_000 + @within

        ManualClock.advance(clock, 10_000)
        {:ok, amended} = EventSeal.amend(name, "p/1", appended.euid, %{body: "changed"})
        assert %{standing: :pool, revision: 1} = holds(context, amended)
        assert {amended.deadline, amended.recorded_at} == {appended.deadline, appended.recorded_at}
        assert amended.commitment != appended.commitment
        assert {:ok, %{commitment: commitment}} = EventSeal.event(name, "p/1", appended.euid)
        assert commitment == amended.commitment

        {:ok, many} = EventSeal.append_many(name, for(n <- 2..4, do: {"p/#{n}", vital(n)}))
        for receipt <- many, do: assert(%{standing: :pool} = holds(context, receipt))
        assert many |> Enum.map(& &1.genesis) |> Enum.uniq() |> length() == 3

        {:ok, retracted} = EventSeal.retract(name, "p/2", hd(many).euid)
        assert %{standing: :retracted} = holds(context, retracted)
        assert retracted.deadline == appended.recorded_at + 10_000_000

        {:ok, closed} = EventSeal.close(name, "p/1", euid: <<9::128>>)
        assert %{standing: :settled, deadline: deadline} = holds(context, closed)
        assert deadline == closed.recorded_at + @within
        assert {:ok, again} = EventSeal.close(name, "p/1", euid: <<9::128>>)
        assert %{standing: :settled} = holds(context, again)
      end

      test "the same event again gets a signed receipt again, in every stage and after a restart", context do
        %{name: name} = start(context)
        append = fn n -> EventSeal.append(name, "p/1", vital(n), euid: <<n::128>>) end
        firsts = for n <- 4..1//-1, do: elem(append.(n), 1)

        again = fn standing ->
          for first <- firsts do
            <<n::128>> = first.euid
            assert {:ok, receipt} = append.(n)
            assert %{standing: ^standing} = holds(context, receipt)
            fields = [:flow, :euid, :genesis, :commitment, :recorded_at, :revision]
            assert Map.take(receipt, fields) == Map.take(first, fields)
          end
        end

        again.(:pool)
        {:ok, 4} = EventSeal.settle(name, "p/1")
        again.(:settled)
        {:ok, 1} = EventSeal.seal(name, "p/1")
        again.(:settled)

        if context.store == Store.Disk do
          stop_supervised!(name)
          start(context)
          again.(:settled)
        end

        # Late ones are sealed with another flag than they appeared with, and promised as they appeared.
        {:ok, _} = EventSeal.close(name, "p/1")
        again.(:settled)
        {:ok, _} = EventSeal.checkpoint(name)

        for first <- firsts do
          {:ok, %{n: n, late: late}} = EventSeal.event(name, "p/1", first.euid)
          assert late == n > 1
          {:ok, again} = append.(:binary.decode_unsigned(first.euid))
          {:ok, proof} = EventSeal.prove(name, "p/1", n)
          for receipt <- [first, again], do: assert({:ok, :kept} = kept(context, receipt, proof))
        end

        assert {:ok, %{accepted: 5}} = EventSeal.head(name, "p/1")
      end

      test "one signature covers all that was committed together, whoever asked for it", context do
        %{name: name, signer: signer} = start(context, writers: 1)
        TokenSigner.asked(signer)
        writer = hold(name)

        callers =
          for n <- 1..24 do
            Task.async(fn ->
              case rem(n, 3) do
                0 -> elem(EventSeal.append_many(name, for(i <- 1..n, do: {"p/#{i}", vital(n)})), 1)
                _ -> [EventSeal.append!(name, "p/#{n}", vital(n))]
              end
            end)
          end

        release(writer, 24)
        receipts = callers |> Enum.map(&Task.await/1) |> List.flatten()
        assert [signed] = TokenSigner.asked(signer)
        assert length(receipts) == 16 + 3 * 36
        assert signed =~ "count #{length(receipts)}\n"
        for receipt <- receipts, do: holds(context, receipt)
        assert receipts |> Enum.map(&signature/1) |> Enum.uniq() |> length() == 1
      end

      test "one signature covers an append_many over several writers", context do
        %{name: name, signer: signer} = start(context, writers: 8)
        TokenSigner.asked(signer)
        items = for n <- 1..60, do: {"p/#{n}", vital(n), euid: <<n::128>>}
        assert {:ok, receipts} = EventSeal.append_many(name, items)
        assert ["event-seal/1 receipts\ncount 60\n" <> _] = TokenSigner.asked(signer)
        for {receipt, n} <- Enum.with_index(receipts, 1), do: assert(%{euid: <<^n::128>>} = holds(context, receipt))
        assert {:ok, again} = EventSeal.append_many(name, items)
        for receipt <- again, do: holds(context, receipt)
        assert Enum.map(receipts, & &1.commitment) == Enum.map(again, & &1.commitment)
      end

      test "without a pool every promise is of a settled event, and is kept", context do
        %{name: name} = start(context, pool_window: 0)
        items = for n <- 1..9, do: {"p/1", vital(n)}
        {:ok, receipts} = EventSeal.append_many(name, items ++ [{"p/1", vital(10), euid: <<10::128>>}])
        {:ok, _} = EventSeal.close(name, "p/1")
        {:ok, _} = EventSeal.checkpoint(name)

        for {receipt, n} <- Enum.with_index(receipts, 1) do
          assert %{standing: :settled, deadline: deadline} = holds(context, receipt)
          assert deadline == receipt.recorded_at + @within
          {:ok, proof} = EventSeal.prove(name, "p/1", n)
          assert {:ok, :kept} = kept(context, receipt, proof)
        end
      end

      test "what a proof says of a promise: kept, and amended where that was open", context do
        %{name: name} = start(context)
        {:ok, first} = EventSeal.append(name, "p/1", vital(1))
        {:ok, amended} = EventSeal.amend(name, "p/1", first.euid, %{who: "dr/1"})
        {:ok, gone} = EventSeal.append(name, "p/1", vital(2))
        {:ok, _} = EventSeal.retract(name, "p/1", gone.euid)
        {:ok, other} = EventSeal.append(name, "p/1", vital(3))
        {:ok, closed} = EventSeal.close(name, "p/1")
        {:ok, _} = EventSeal.checkpoint(name)
        [one, two, three] = for n <- 1..3, do: elem(EventSeal.prove(name, "p/1", n), 1)

        assert {:ok, :amended} = kept(context, first, one)
        assert {:ok, :kept} = kept(context, amended, one)
        assert {:ok, :kept} = kept(context, other, two)
        assert {:ok, :kept} = kept(context, closed, three)
        assert {:error, %Error{reason: :invalid, field: :proof}} = kept(context, gone, two)
        assert {:error, %Error{reason: :invalid, field: :proof}} = kept(context, first, two)
      end
    end
  end

  describe "a promise that was broken is shown by two signatures:" do
    @describetag store: Store.Disk

    setup context do
      start(context, pool_window: 0)
      EventSeal.append!(context.name, "p/1", vital(0))
      context
    end

    test "an event was written anew after the store was set back", %{name: name} = context do
      set_back = copy(context)
      promised = EventSeal.append!(name, "p/1", %{vital(1) | body: "5 mg"}, euid: <<1::128>>)
      assert %{standing: :settled} = holds(context, promised)
      set_back.()
      EventSeal.append!(name, "p/1", %{vital(1) | body: "50 mg"}, euid: <<1::128>>)
      assert {:ok, {:broken, :commitment}} = kept(context, promised, proof(name, 2))
    end

    test "and at another time", %{name: name} = context do
      set_back = copy(context)
      promised = EventSeal.append!(name, "p/1", vital(1), euid: <<1::128>>)
      set_back.()
      ManualClock.advance(context.clock, 1)
      EventSeal.append!(name, "p/1", vital(1), euid: <<1::128>>)
      assert {:ok, {:broken, :recorded_at}} = kept(context, promised, proof(name, 2))
    end

    test "an event that was retracted came back", %{name: name} = context do
      stop_supervised!(name)
      start(context)
      promised = EventSeal.append!(name, "p/1", vital(1), euid: <<1::128>>)
      set_back = copy(context)
      {:ok, retracted} = EventSeal.retract(name, "p/1", <<1::128>>)
      set_back.()
      proof = proof(name, 2)
      assert {:ok, {:broken, :retracted}} = kept(context, retracted, proof)
      assert {:ok, :kept} = kept(context, promised, proof)
    end
  end

  describe "a receipt's text" do
    @describetag store: Store.Memory

    setup context do
      %{receipt: start(context).name |> EventSeal.append!("patient/42", vital(1))}
    end

    test "names no patient and nobody else, and shows no body", %{receipt: receipt} do
      for hidden <- ["patient", "/42", "nurse", "ward", "body", "vital"], do: refute(receipt.text =~ hidden)
    end

    test "is worth nothing under another key, or changed", context do
      %{receipt: %{text: text}, key: key, log_key: log_key} = context
      {:ok, other} = Signer.File.generate(context.path <> "2", "clinic.example/receipts", :receipts)
      reason = fn text, key -> elem(Receipt.verify(text, key: key), 1).reason end
      assert {:ok, %Receipt{key: ^key, flow: nil}} = Receipt.verify(text, key: [other, key])
      assert reason.(text, other) == :untrusted
      assert reason.(text, log_key) == :invalid
      assert reason.(text, []) == :invalid
      assert reason.(text, "none") == :invalid
      assert reason.(text, [key, key]) == :invalid
      assert reason.(String.replace(text, "standing pool", "standing settled"), key) == :untrusted
      assert reason.(String.replace(text, "standing pool", "standing fixed"), key) == :malformed
      assert reason.("", key) == :malformed
      assert reason.(<<255>>, key) == :malformed

      for size <- 0..(byte_size(text) - 1),
          do: assert(reason.(binary_part(text, 0, size), key) in [:malformed, :untrusted])
    end

    test "and a proof's are both verified before anything is said of them", context do
      %{name: name, receipt: receipt} = context
      {:ok, _} = EventSeal.close(name, "patient/42")
      {:ok, _} = EventSeal.checkpoint(name)
      {:ok, proof} = EventSeal.prove(name, "patient/42", 1)
      assert {:ok, :kept} = kept(context, receipt, proof)

      for {changed_receipt, changed_proof, which} <- [
            {String.replace(receipt.text, "revision 0", "revision 1"), proof, "the receipt"},
            {"", proof, "the receipt"},
            {receipt.text, String.replace(proof, "revision 0", "revision 1"), "the proof"},
            {receipt.text, "", "the proof"}
          ] do
        policy = [receipts: context.key, key: context.log_key]
        assert {:error, %Error{reason: reason, detail: detail}} = Receipt.kept(changed_receipt, changed_proof, policy)
        assert reason in [:untrusted, :malformed]
        assert detail =~ which
      end

      assert {:error, %Error{reason: :invalid}} =
               Receipt.kept(receipt.text, proof, receipts: context.log_key, key: context.key)

      {:ok, witness} = Signer.File.generate(context.path <> "w", "witness.example/w", :witness)
      asked = [receipts: context.key, key: context.log_key, witnesses: [witness]]
      assert {:error, %Error{reason: :untrusted, detail: "the proof" <> _}} = Receipt.kept(receipt.text, proof, asked)
    end
  end

  defp signature(receipt), do: receipt.text |> String.split("\n") |> Enum.at(-2)

  defp proof(name, n) do
    {:ok, _} = EventSeal.close(name, "p/1")
    {:ok, _} = EventSeal.checkpoint(name)
    {:ok, proof} = EventSeal.prove(name, "p/1", n)
    proof
  end

  # What sets the store back to how it is now.
  defp copy(%{tmp_dir: dir, name: name} = context) do
    window = Instance.fetch!(name).options[:pool_window]
    [store, kept] = for folder <- ~w(store kept), do: Path.join(dir, folder)
    stop_supervised!(name)
    File.cp_r!(store, kept)
    start(context, pool_window: window)

    fn ->
      stop_supervised!(name)
      File.rm_rf!(store)
      File.cp_r!(kept, store)
      start(context, pool_window: window)
    end
  end

  # The only writer takes nothing, until so many requests wait: then all of them together.
  defp hold(name) do
    {:ok, writer, _} = Instance.writer(Instance.fetch!(name), 0)
    :sys.suspend(writer)
    writer
  end

  defp release(writer, waiting) do
    case Process.info(writer, :message_queue_len) do
      {_, ^waiting} -> :sys.resume(writer)
      _ -> Process.sleep(1) && release(writer, waiting)
    end
  end
end
