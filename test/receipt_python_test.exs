defmodule EventSeal.ReceiptPythonTest do
  use ExUnit.Case, async: true

  alias EventSeal.{ProofChanges, PythonCheck, Receipt, Signer, Store}

  @moduledoc false
  # FORMAT.md is enough to check a receipt: a Python script that knows nothing else comes to the verdict of EventSeal.Receipt
  # on every honest file and on every other one.

  @moduletag timeout: 600_000
  @moduletag :tmp_dir

  setup %{tmp_dir: dir} do
    [log, path] = for file <- ~w(log.key receipts.key), do: Path.join(dir, file)
    {:ok, log_key} = Signer.File.generate(log, "clinic.example/log")
    {:ok, key} = Signer.File.generate(path, "clinic.example/receipts", :receipts)

    receipts =
      for suite <- [:sha256, :blake3] do
        name = :"receipt_python_#{System.unique_integer([:positive])}"

        opts = [
          name: name,
          store: Store.Memory,
          suite: suite,
          checkpoints: [signer: {Signer.File, log}],
          receipts: [signer: {Signer.File, path}]
        ]

        start_supervised!({EventSeal, opts}, id: name)
        receipts(name)
      end

    %{key: key, log_key: log_key, texts: receipts |> List.flatten() |> Enum.map(& &1.text), path: path}
    |> Map.put(:python, PythonCheck.start!("check_receipt"))
  end

  test "honest receipts are accepted by both, which read the same in them", %{python: python, key: key, texts: texts} do
    verdicts = PythonCheck.verdicts(python, [key], texts)

    for {text, verdict} <- Enum.zip(texts, verdicts) do
      assert {:ok, receipt} = Receipt.verify(text, key: key)
      euid = Base.encode16(receipt.euid, case: :lower)
      said = "#{euid} #{receipt.standing} revision #{receipt.revision} by #{receipt.deadline}"
      assert verdict == {:proved, said}
    end

    assert length(texts) == 80
    for standing <- ~w(pool settled retracted), do: assert(Enum.any?(texts, &(&1 =~ "standing #{standing}")))
  end

  test "every byte changed, every cut, and lines moved about are refused by both", context do
    for text <- Enum.take_random(context.texts, 6) do
      changed = ProofChanges.bytes(text) ++ ProofChanges.lines(text) ++ signed_twice(text)
      assert_refused(context, [context.key], changed)
    end
  end

  test "every other value is refused by both", context do
    for text <- Enum.take_random(context.texts, 20) do
      changes =
        for {key, values} <- values(), value <- values, changed = put(text, key, value), changed != text do
          {"#{key} #{value}", changed}
        end

      assert_refused(context, [context.key], changes)
    end
  end

  test "whoever trusts other keys is shown nothing by either", context do
    {:ok, other} = Signer.File.generate(context.path <> "2", "clinic.example/receipts", :receipts)
    files = for text <- Enum.take_random(context.texts, 20), do: {"another key", text}
    assert_refused(context, [other], files)
    assert_refused(context, [context.log_key], files)
    assert_refused(context, [context.key, context.key], files)
    assert unlike(context, [other, context.key], files, :proved) == []
  end

  # Groups of one, of three and of many, and every standing.
  defp receipts(name) do
    one = append(name, 1)
    amended = ok(EventSeal.amend(name, "p/1", hd(one).euid, %{who: "dr/1"}))
    many = append(name, 33) ++ append(name, 3)
    retracted = ok(EventSeal.retract(name, "p/3", Enum.at(many, 2).euid))
    closed = ok(EventSeal.close(name, "p/1"))
    [one, amended, many, retracted, closed]
  end

  defp append(name, count) do
    ok(EventSeal.append_many(name, for(n <- 1..count, do: {"p/#{n}", %{when: n, kind: "vital", body: "#{n}"}})))
  end

  defp ok({:ok, value}), do: value

  defp values do
    digests = [String.duplicate("0", 64), String.duplicate("A", 64), "00", ""]
    numbers = ["0", "1", "-1", "+1", "01", "1.0", "9007199254740991", "9007199254740992", ""]

    %{
      "suite" => ["sha256", "blake3", "sha512", ""],
      "genesis" => digests,
      "euid" => [String.duplicate("0", 32), "00"],
      "revision" => ["65535", "65536" | numbers],
      "recorded_at" => numbers,
      "commitment" => digests,
      "event" => digests,
      "standing" => ["pool", "settled", "retracted", "fixed", "Pool", ""],
      "deadline" => numbers,
      "count" => ["4294967295", "4294967296" | numbers],
      "index" => ["4294967295", "4294967296" | numbers],
      "path" => digests
    }
  end

  defp put(text, key, value), do: String.replace(text, ~r/^#{key} .*$/m, "#{key} #{value}", global: false)

  defp signed_twice(text) do
    signature = text |> String.split("\n\n") |> List.last()
    [{"signed twice", text <> signature}, {"and something behind it", text <> "x"}, {"an empty line", text <> "\n"}]
  end

  defp assert_refused(context, keys, files), do: assert(unlike(context, keys, files, :refused) == [])

  # Those of the files of which one of both says anything but this verdict.
  defp unlike(%{python: python}, keys, files, verdict) do
    said = PythonCheck.verdicts(python, keys, for({_, file} <- files, do: file))

    for {{what, file}, {other, why}} <- Enum.zip(files, said),
        own = if(match?({:ok, _}, Receipt.verify(file, key: keys)), do: :proved, else: :refused),
        {own, other} != {verdict, verdict},
        do: {what, elixir: own, python: {other, why}, file: file}
  end
end
