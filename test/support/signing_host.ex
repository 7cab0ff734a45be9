defmodule EventSeal.SigningHost do
  @moduledoc false
  # A tree with signed receipts, its keys and its clock, and what its receipts are held against.
  import ExUnit.Assertions

  alias EventSeal.{ManualClock, Receipt, Signer, Store, TokenSigner}

  @doc "How long an event stays in the pool, and how often checkpoints are signed, in ms."
  def window, do: 300_000
  def every, do: 3_600_000

  @doc "Keys in the test's folder, and what else a tree is started with."
  def prepare(%{tmp_dir: dir}) do
    [log_path, path] = for file <- ~w(log.key receipts.key), do: Path.join(dir, file)
    {:ok, log_key} = Signer.File.generate(log_path, "clinic.example/log")
    {:ok, key} = Signer.File.generate(path, "clinic.example/receipts", :receipts)
    name = :"receipts-#{System.unique_integer([:positive])}"
    signer = TokenSigner.start!(path)
    clock = ManualClock.start!()
    %{name: name, log_path: log_path, path: path, log_key: log_key, key: key, signer: signer, clock: clock}
  end

  @doc "Starts it, over the store of the test's tag, with other options than these; nil takes one away."
  def start(context, opts \\ []) do
    {every, opts} = Keyword.pop(opts, :every, every())

    tree = [
      name: context.name,
      store: store(context),
      clock: context.clock,
      pool_window: window(),
      checkpoints: [signer: {Signer.File, context.log_path}, every: every],
      receipts: [signer: context.signer]
    ]

    opts = tree |> Keyword.merge(opts) |> Enum.reject(&match?({_, nil}, &1))
    ExUnit.Callbacks.start_supervised!({EventSeal, opts}, id: context.name)
    context
  end

  defp store(%{store: Store.Disk, tmp_dir: dir}), do: {Store.Disk, dir: Path.join(dir, "store")}
  defp store(_context), do: {Store.Memory, []}

  def vital(n), do: %{when: n, where: {:place, "ward/7"}, who: "nurse/7", kind: "vital", body: "body #{n}"}

  @doc "The receipt, if its text holds under the key and says what the receipt says."
  def holds(%{key: key}, receipt) do
    assert {:ok, read} = Receipt.verify(receipt.text, key: key)
    assert %{read | flow: receipt.flow} == receipt
    assert receipt.unsigned == nil
    receipt
  end

  @doc "Whether its promise was kept, by this proof."
  def kept(context, receipt, proof),
    do: Receipt.kept(receipt.text, proof, receipts: context.key, key: context.log_key)
end
