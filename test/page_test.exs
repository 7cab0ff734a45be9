defmodule EventSeal.PageTest do
  # The pages as they are written, and as a browser shows them.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO

  alias EventSeal.{Browser, Command, Store}
  alias EventSeal.Page.Html

  @moduletag :tmp_dir
  @moduletag timeout: 300_000
  @sample "samples/movements.jsonl"
  @flow "patient/10001725"
  @body "procedure_code"
  @hostile ~s(<script>console.error\('in'\)</script>"'&) <> "\u202Etxt.exe\u200B"

  defp report(dir, out, more \\ []) do
    path = Path.join(dir, out)
    args = ["--dir", Path.join(dir, "store"), "--out", path] ++ more
    capture_io(fn -> capture_io(:stderr, fn -> send(self(), {:status, Command.report(args)}) end) end)
    assert_received {:status, status}
    {status, path}
  end

  defp hospital(dir) do
    capture_io(fn -> assert Command.import(["--dir", Path.join(dir, "store"), @sample]) == 0 end)
    dir
  end

  defp forge(dir, from, to) do
    for path <- Path.wildcard(dir <> "/store/**/*.segment"), {at, _} <- :binary.matches(File.read!(path), from) do
      {:ok, file} = :file.open(path, [:raw, :binary, :read, :write])
      :ok = :file.pwrite(file, at, to)
      :ok = :file.close(file)
    end
  end

  defp tampered(dir) do
    hospital(dir)
    assert forge(dir, ~s("procedure_code":"8696"), ~s("procedure_code":"8697")) != []
    dir
  end

  defp host(dir, opts \\ []) do
    name = :"page_#{System.unique_integer([:positive])}"
    tree = Keyword.merge([name: name, store: {Store.Disk, dir: Path.join(dir, "store")}, pool_window: 0], opts)
    start_supervised!({EventSeal, tree}, id: name)
    name
  end

  defp text(path), do: File.read!(path)
  defp count(text, part), do: length(String.split(text, part)) - 1

  # Where the mark of a fault stands, and how wide the page and what is in it are.
  @place """
  (() => {
    const mark = page.document.querySelector('MARK'), box = mark.getBoundingClientRect(), style = page.getComputedStyle(mark)
    return {left: box.left, right: box.right, height: box.height, shown: style.visibility == 'visible' && style.opacity == 1,
            text: mark.innerText, inner: page.innerWidth, scroll: page.document.documentElement.scrollWidth}
  })()
  """

  defp marked(path, width, mark) do
    place = Browser.measure(path, width, String.replace(@place, "MARK", mark))
    assert place["inner"] == width
    assert place["scroll"] <= width
    assert place["left"] >= 0 and place["right"] <= width and place["height"] > 20
    assert place["shown"]
    place["text"]
  end

  test "a tampered event is marked in its flow, where a reader sees it, without its body", %{tmp_dir: dir} do
    assert {1, path} = dir |> tampered() |> report("flow.html", ["--flow", @flow])
    page = Browser.open(path)
    assert page.console == []
    assert page.asked == []
    assert [_, event] = Regex.run(~r"<li id=\"n1\" class=\"fixed bad\">(.*?)</li>"s, page.dom)
    assert event =~ "Body changed" and event =~ ~r"recorded.*[0-9a-f]{64}.*recomputed.*[0-9a-f]{64}"
    assert count(page.dom, "class=\"fixed bad\"") == 1
    assert page.dom =~ "1 fault was found."
    refute page.dom =~ @body

    for width <- [390, 1280], do: assert(marked(path, width, "#n1 .fault") =~ "✕ Fault: Body changed")
  end

  test "a tampered store is said to be so, the flow first and marked", %{tmp_dir: dir} do
    assert {1, path} = dir |> tampered() |> report("store.html")
    page = Browser.open(path)
    assert {page.console, page.asked} == {[], []}
    assert page.dom =~ "1 fault was found." and page.dom =~ "2,636 events of 100 flows"
    assert [first | others] = Regex.scan(~r"<tr( class=\"bad\")?><th scope=\"row\"><bdi>(.*?)</bdi>", page.dom)
    assert [_, " class=\"bad\"", @flow] = first
    assert length(others) == 99 and Enum.all?(others, &match?([_, "", _], &1))
    refute page.dom =~ @body

    for width <- [390, 1280] do
      assert marked(path, width, ".faults .fault") =~ "#{@flow}, position 1, block 0"
      assert marked(path, width, "tr.bad") =~ "✕ 1 fault"
    end
  end

  test "bodies are shown when asked for, and a page without a fault says so", %{tmp_dir: dir} do
    assert {0, path} = dir |> hospital() |> report("flow.html", ["--flow", @flow, "--bodies"])
    text = text(path)
    assert text =~ "No fault: every value that was read is what was sealed."
    assert text =~ "&quot;procedure_code&quot;:&quot;8696&quot;"
    refute text =~ "✕"
  end

  test "hostile names are inert", %{tmp_dir: dir} do
    name = host(dir)

    event = %{
      kind: @hostile,
      where: {:place, ~s("><img src=http://probe.example/x.png onerror=console.error\(1\)>)},
      who: "' onload='console.error(1)\u2066",
      body: "</pre><script>console.error('body')</script>\x1b[31m\u202E"
    }

    for n <- 1..5, do: {:ok, _} = EventSeal.append(name, @hostile, Map.put(event, :when, n))
    {:ok, 2} = EventSeal.seal(name, @hostile)
    stop_supervised!(name)

    for {out, more} <- [{"flow.html", ["--flow", @hostile, "--bodies"]}, {"store.html", []}] do
      assert {0, path} = report(dir, out, more)
      page = Browser.open(path)
      assert {page.console, page.asked} == {[], []}
      refute page.dom =~ ~r"<(script|img)"
      refute page.dom =~ ~r"[\x{202E}\x{2066}\x{200B}\x1b]"u
      assert page.dom =~ ~s(&lt;script&gt;) and page.dom =~ ~s(<span class="unseen">U+202E</span>)
    end

    # A browser that would not notice proves nothing.
    probe = Path.join(dir, "probe.html")
    File.write!(probe, "<body><script>console.error('in')</script><img src='http://probe.example/x.png'>")
    assert %{console: [_], asked: ["GET http://probe.example/x.png" <> _]} = Browser.open(probe)
  end

  test "what is not text a reader can see is shown by its number" do
    shown = fn text -> text |> Html.to_iodata() |> IO.iodata_to_binary() end
    assert shown.("a<b>&\"'") == "a&lt;b&gt;&amp;&quot;&#39;"
    assert shown.("\u0085\u2028") == ~s(<span class="unseen">U+0085</span><span class="unseen">U+2028</span>)
    assert shown.(<<"å", 0xFF>>) == ~s(å<span class="unseen">byte FF</span>)
    assert shown.(Html.el(:a, [title: "\"\u202E"], "x")) == ~s(<a title="&quot;⟨U+202E⟩">x</a>)
  end

  test "a block that cannot be taken apart is marked as a whole, and what stands behind it is shown", %{tmp_dir: dir} do
    name = host(dir)
    for n <- 1..5, do: {:ok, _} = EventSeal.append(name, "f", %{when: n, kind: "vital"})
    {:ok, 2} = EventSeal.seal(name, "f")
    handle = Store.handle(Store.Disk, Module.concat(name, "Store"))
    {:ok, [%{at: {:file, path, offset, _}}]} = Store.blocks(handle, "f", {1, 2})
    stop_supervised!(name)
    {:ok, file} = :file.open(path, [:raw, :binary, :read, :write])
    :ok = :file.pwrite(file, offset, "0000")
    :ok = :file.close(file)

    assert {1, path} = report(dir, "flow.html", ["--flow", "f"])
    assert text(path) =~ ~r"<h3 id=\"n1\">Block 0<span class=\"tag bad\">✕ fault</span></h3>.*the block as a whole"s
    assert {1, path} = report(dir, "store.html")
    assert text(path) =~ "<tr class=\"bad\"><th scope=\"row\"><bdi>f</bdi>"
  end

  test "each class of fault is explained" do
    {:ok, types} = Code.Typespec.fetch_types(EventSeal.Fault)
    [classes] = for {:type, {:class, {:type, _, :union, atoms}, []}} <- types, do: Enum.map(atoms, &elem(&1, 2))
    assert length(classes) > 20
    for class <- classes, do: assert({<<_, _::binary>>, <<_, _::binary>>} = EventSeal.Page.Words.class(class))
  end

  test "the page names no address and runs nothing", %{tmp_dir: dir} do
    {0, path} = dir |> hospital() |> report("store.html")
    text = text(path)
    refute text =~ ~r"https?:|<script|<link|<img|@import|url\("
    assert text =~ ~r"default-src &#39;none&#39;; style-src &#39;sha256-"
    assert text =~ "prefers-color-scheme: dark" and text =~ "@media print"
  end

  test "stages, lateness, checkpoint and audit are told", %{tmp_dir: dir} do
    key = Path.join(dir, "key")
    note = Path.join(dir, "audit")
    {:ok, _} = EventSeal.Signer.File.generate(key, "clinic.example/log")
    signer = [signer: {EventSeal.Signer.File, key}, every: :infinity]
    name = host(dir, checkpoints: signer)
    for at <- [5, 4, 6, 7, 8], do: {:ok, _} = EventSeal.append(name, "f", %{when: at, kind: "vital"})
    {:ok, 2} = EventSeal.seal(name, "f")
    {:ok, checkpoint} = EventSeal.checkpoint(name)
    stop_supervised!(name)
    name = host(dir, pool_window: 3_600_000)
    {:ok, _} = EventSeal.append(name, "f", %{when: 9, kind: "vital"})
    stop_supervised!(name)
    File.write!(note, "event-seal-audit/1\nnow 30000000 1 66\nlast 0 20000000 2 100 0\n")

    {0, path} = report(dir, "flow.html", ["--flow", "f"])
    text = text(path)

    for {stage, events} <- [fixed: 2, sandbox: 3, pool: 1],
        do: assert(count(text, ~s(<span class="tag stage">#{stage}<)) == events)

    assert [_, "n2"] = Regex.run(~r"<li id=\"(n\d)\" class=\"\w+ late\">", text)
    # The line of the checkpoint stands behind the last position that it tells of.
    assert text =~ ~r"id=\"n5\".*?</li><li class=\"checkpoint\">Checkpoint of <bdi>clinic.example/log</bdi>"s
    assert text =~ "in the checkpoint" and text =~ Base.encode64(checkpoint.root)

    {0, path} = report(dir, "store.html", ["--audit", note])
    assert text(path) =~ "100 events of 2 flows, no fault; it took 20.00 s, 5 events a second."
    assert text(path) =~ "1 flow verified of about 2 (50 %)"
    assert {2, _} = report(dir, "none.html", ["--audit", note <> ".none"])
  end

  test "of a long flow the newest and those with a fault are shown, and what is left out is said", %{tmp_dir: dir} do
    name = host(dir)
    bodies = for n <- 1..2_500, do: {"long", %{when: n, kind: "vital", body: "body #{n}."}}

    for part <- Enum.chunk_every(bodies, 100),
        do: {{:ok, _}, _} = {EventSeal.append_many(name, part), EventSeal.seal(name, "long")}

    stop_supervised!(name)
    forge(dir, "body 50.", "body XX.")

    {1, path} = report(dir, "flow.html", ["--flow", "long"])
    text = text(path)
    shown = for [_, n] <- Regex.scan(~r"<li id=\"n(\d+)\"", text), do: String.to_integer(n)
    assert shown == [50 | Enum.to_list(501..2_500)]
    assert text =~ "2,001 events are shown" and text =~ "499 are left out here"
    assert text =~ ~r"<li id=\"n50\" class=\"fixed bad\">"
    assert text =~ ~r"Blocks 1 to \d+, positions 98 to \d+: left out, no fault\."
  end

  test "a log that is not what was signed is no good verdict", %{tmp_dir: dir} do
    key = Path.join(dir, "key")
    {:ok, _} = EventSeal.Signer.File.generate(key, "clinic.example/log")
    name = host(dir, checkpoints: [signer: {EventSeal.Signer.File, key}, every: :infinity])
    for at <- 1..5, do: {:ok, _} = EventSeal.append(name, "f", %{when: at, kind: "vital"})
    {:ok, _} = EventSeal.checkpoint(name)
    handle = Store.handle(Store.Disk, Module.concat(name, "Store"))
    {:ok, signed} = EventSeal.Checkpoint.last(handle)
    # The checkpoint of another log, with the right key.
    {:ok, signer} = EventSeal.Signer.open(EventSeal.Signer.File, key)
    {:ok, other} = EventSeal.Signer.checkpoint(signer, signed.size, :crypto.hash(:sha256, "another"))
    :ok = Store.commit(handle, [{:checkpoint, EventSeal.Checkpoint.pack(other)}])
    stop_supervised!(name)

    assert {1, path} = report(dir, "store.html")
    assert text(path) =~ "The log does not have the root that was signed."
    assert text(path) =~ "Not as logged"
  end

  test "a file that is there is not written over, and a flow that is not there is no page", %{tmp_dir: dir} do
    assert {0, path} = dir |> hospital() |> report("store.html")

    assert {2, ^path} = report(dir, "store.html")
    assert {2, none} = report(dir, "none.html", ["--flow", "none"])
    refute File.exists?(none)
    assert {2, _} = report(dir, "none.html", ["--bodies"])
  end
end
