defmodule EventSeal.Native do
  @moduledoc false
  # The NIF's stubs, thin on purpose: a native library cannot be replaced while it is loaded, so a new one needs the VM
  # restarted. Functions that take `work` (bytes, roughly) stay on the calling scheduler if it is small, and go to a dirty
  # one if they might take a millisecond. What takes long runs on a pool of threads of its own and answers by a message.
  #
  # Failures come back as `{:error, {:malformed, at, what}}`, `{:error, {:invalid, field, rule}}`,
  # `{:error, {:refused, reason}}` or `{:error, {:corrupt, what, index}}`; a term of the wrong type raises ArgumentError.

  @on_load :load

  # Bytes that are packed or hashed in well under a millisecond.
  @small 131_072

  @type failure ::
          {:malformed, non_neg_integer, String.t()}
          | {:invalid, atom, atom}
          | {:refused, atom}
          | {:corrupt, atom, non_neg_integer | nil}
  @type result(value) :: {:ok, value} | {:error, failure}

  @doc false
  def load do
    :event_seal |> :code.priv_dir() |> Path.join("native/event_seal") |> String.to_charlist() |> :erlang.load_nif(0)
  end

  # Hashing

  @spec hash_all(term, [binary], non_neg_integer) :: [<<_::256>>]
  def hash_all(algorithm, inputs, work) when work < @small, do: hash_all_here(algorithm, inputs)
  def hash_all(algorithm, inputs, _work), do: hash_all_dirty(algorithm, inputs)

  @spec hash_new(term) :: reference
  def hash_new(_algorithm), do: not_loaded()

  @spec hash_update(reference, binary, non_neg_integer) :: reference
  def hash_update(state, input, work) when work < @small, do: hash_update_here(state, input)
  def hash_update(state, input, _work), do: hash_update_dirty(state, input)

  @spec hash_final(reference) :: <<_::256>>
  def hash_final(_state), do: not_loaded()

  # Chains

  @spec genesis(atom, integer, <<_::128>>, String.t()) :: result(binary)
  def genesis(_suite, _created_at, _nonce, _flow), do: not_loaded()

  @spec read_genesis(binary) :: result({atom, integer, String.t(), <<_::256>>, binary})
  def read_genesis(_record), do: not_loaded()

  @spec frames(atom, [tuple], non_neg_integer) :: result([{binary, binary}])
  def frames(suite, drafts, work) when work < @small, do: frames_here(suite, drafts)
  def frames(suite, drafts, _work), do: frames_dirty(suite, drafts)

  @spec settle([{binary, [binary], boolean}], non_neg_integer) :: result([tuple])
  def settle(flows, work) when work < @small, do: settle_here(flows)
  def settle(flows, _work), do: settle_dirty(flows)

  @spec settle_drafts([{binary, [tuple]}], non_neg_integer) :: result([tuple])
  def settle_drafts(flows, work) when work < @small, do: settle_drafts_here(flows)
  def settle_drafts(flows, _work), do: settle_drafts_dirty(flows)

  @spec restore(binary, binary | nil, integer | nil, [{binary, binary | nil}]) :: result({tuple, binary | nil})
  def restore(_genesis, _last_block, _when_max, _runs), do: not_loaded()

  @spec seal(binary, tuple, {binary, binary}, binary, [{binary, binary | nil}], tuple, non_neg_integer) :: result(tuple)
  def seal(genesis, placed, before, ids, runs, limits, work) when work < @small,
    do: seal_here(genesis, placed, before, ids, runs, limits)

  def seal(genesis, placed, before, ids, runs, limits, _work),
    do: seal_dirty(genesis, placed, before, ids, runs, limits)

  @spec tail(binary, binary | nil, [tuple]) :: result(binary)
  def tail(_genesis, _last_block, _entries), do: not_loaded()

  # Containers

  @spec header(binary) :: result(tuple)
  def header(_container), do: not_loaded()

  @spec events(binary) :: result([tuple])
  def events(container) when byte_size(container) < @small, do: events_here(container)
  def events(container), do: events_dirty(container)

  # Verification, on a pool of threads; the caller gets `{tag, :done, counts, faults, edges}` or `{tag, :failed, reason}`.

  @spec pool(pos_integer, {pos_integer, :events | :bytes} | nil) :: reference
  def pool(_threads, _max_rate), do: not_loaded()

  # A flow, or `{paths, flows}`: closed flows whose containers lie in files.
  @spec verify(reference, [tuple], {boolean, non_neg_integer}, reference | nil, term) :: reference
  def verify(_pool, _flows, _settings, _held, _tag), do: not_loaded()

  @spec verify_interchange(reference, binary, non_neg_integer, term) :: reference
  def verify_interchange(_pool, _text, _max_faults, _tag), do: not_loaded()

  @spec progress(reference) :: {non_neg_integer, non_neg_integer}
  def progress(_job), do: not_loaded()

  @spec cancel(reference) :: :ok
  def cancel(_job), do: not_loaded()

  # The log as a verification holds it against a store

  @spec ledger :: reference
  def ledger, do: not_loaded()

  @spec ledger_learn(reference, [binary]) :: {non_neg_integer, <<_::256>>}
  def ledger_learn(_held, _leaves), do: not_loaded()

  @spec ledger_arrange(reference) :: :ok
  def ledger_arrange(_held), do: not_loaded()

  @spec ledger_reach(reference, <<_::256>>, non_neg_integer) :: {fixed :: non_neg_integer, n :: non_neg_integer}
  def ledger_reach(_held, _genesis, _size), do: not_loaded()

  @spec ledger_pass(reference, <<_::256>>, non_neg_integer, pos_integer) :: :ok
  def ledger_pass(_held, _genesis, _size, _before), do: not_loaded()

  @spec ledger_pass_ended(reference, [{term, pos_integer}], non_neg_integer) :: [boolean]
  def ledger_pass_ended(_held, _flows, _size), do: not_loaded()

  @spec ledger_has_strays(reference) :: boolean
  def ledger_has_strays(_held), do: not_loaded()

  @spec ledger_strays(reference) :: [tuple]
  def ledger_strays(_held), do: not_loaded()

  @spec ledger_rest(reference, non_neg_integer) ::
          {[tuple], [non_neg_integer], non_neg_integer, covered :: non_neg_integer}
  def ledger_rest(_held, _size), do: not_loaded()

  # The log: leaves, the tree over them, keys and checkpoints

  @spec block_leaf(atom, <<_::256>>, non_neg_integer, pos_integer, <<_::256>>) :: binary
  def block_leaf(_suite, _genesis, _height, _last, _hash), do: not_loaded()

  @spec tail_leaf(atom, <<_::256>>, pos_integer, <<_::256>>) :: binary
  def tail_leaf(_suite, _genesis, _n, _provisional), do: not_loaded()

  @spec decision_leaf(atom, <<_::256>>, pos_integer, <<_::256>>, <<_::256>>) :: binary
  def decision_leaf(_suite, _genesis, _n, _provisional, _decision), do: not_loaded()

  @spec key_change_leaf(String.t(), String.t()) :: binary
  def key_change_leaf(_old, _new), do: not_loaded()

  @spec read_leaf(binary) :: result(tuple)
  def read_leaf(_data), do: not_loaded()

  @spec log_tree :: reference
  def log_tree, do: not_loaded()

  @spec log_push(reference, [binary]) :: result(non_neg_integer)
  def log_push(_tree, _leaves), do: not_loaded()

  @spec log_head(reference) :: {non_neg_integer, <<_::256>>}
  def log_head(_tree), do: not_loaded()

  @spec log_tail(reference, <<_::256>>) :: {n :: non_neg_integer, index :: non_neg_integer}
  def log_tail(_tree, _genesis), do: not_loaded()

  @spec log_block(reference, <<_::256>>) :: non_neg_integer | nil
  def log_block(_tree, _hash), do: not_loaded()

  @spec log_chunks(reference, tuple) :: result([non_neg_integer])
  def log_chunks(_tree, _asked), do: not_loaded()

  @spec log_path(reference, tuple, [{non_neg_integer, [binary]}]) :: result(binary)
  def log_path(_tree, _asked, _chunks), do: not_loaded()

  @spec key_texts(String.t(), :log | :witness | :receipts, <<_::256>>) :: result({binary, String.t()})
  def key_texts(_name, _purpose, _seed), do: not_loaded()

  @spec key_open(binary) :: result({reference, String.t()})
  def key_open(_text), do: not_loaded()

  @spec key_sign(reference, binary) :: <<_::512>>
  def key_sign(_key, _message), do: not_loaded()

  @spec checkpoint_text(String.t(), non_neg_integer, <<_::256>>) :: result(String.t())
  def checkpoint_text(_key, _size, _root), do: not_loaded()

  @spec signature_line(String.t(), binary) :: result(String.t())
  def signature_line(_key, _signature), do: not_loaded()

  @spec checkpoint_open(binary, [String.t()], [String.t()], non_neg_integer) :: result(tuple)
  def checkpoint_open(_note, _logs, _witnesses, _quorum), do: not_loaded()

  @spec witness_request(non_neg_integer, binary, String.t()) :: String.t()
  def witness_request(_old, _path, _checkpoint), do: not_loaded()

  @spec witness_read(binary) :: result({non_neg_integer, String.t()})
  def witness_read(_request), do: not_loaded()

  @spec witness_extends(binary, <<_::256>>) :: result(boolean)
  def witness_extends(_request, _root), do: not_loaded()

  @spec cosigned_text(String.t(), non_neg_integer) :: result(binary)
  def cosigned_text(_note, _time), do: not_loaded()

  @spec note_with(String.t(), String.t()) :: result(String.t())
  def note_with(_note, _lines), do: not_loaded()

  @spec proof_make(binary, pos_integer, boolean, {non_neg_integer, binary, String.t()}) :: result(String.t())
  def proof_make(_block, _n, _show, _logged), do: not_loaded()

  @spec proof_verify(binary, [String.t()], [String.t()], non_neg_integer) ::
          {:ok, tuple} | {:error, failure | {:rule, atom}}
  def proof_verify(_text, _logs, _witnesses, _quorum), do: not_loaded()

  # Receipts. What is promised of an event: `{suite, genesis, euid, revision, recorded_at, commitment, standing, deadline}`.

  @spec receipts_key(String.t()) :: result(String.t())
  def receipts_key(_key), do: not_loaded()

  @spec receipts_group([tuple], non_neg_integer) :: result({reference, String.t()})
  def receipts_group(promised, work) when work < @small, do: receipts_group_here(promised)
  def receipts_group(promised, _work), do: receipts_group_dirty(promised)

  @spec receipts_signed(reference, String.t(), binary, non_neg_integer) :: result([{tuple, String.t()}])
  def receipts_signed(group, key, signature, work) when work < @small, do: receipts_signed_here(group, key, signature)
  def receipts_signed(group, key, signature, _work), do: receipts_signed_dirty(group, key, signature)

  @spec receipt_verify(binary, [String.t()]) :: result({tuple, String.t()})
  def receipt_verify(_text, _keys), do: not_loaded()

  @spec receipt_kept(binary, binary, [String.t()], {[String.t()], [String.t()], non_neg_integer}) ::
          {:ok, :kept | :amended | {:broken, atom}}
          | {:error, failure | {:receipt | :proof, {:error, failure | {:rule, atom}}}}
  def receipt_kept(_receipt, _proof, _keys, _trusted), do: not_loaded()

  # Archives

  @spec verify_archive(reference, Path.t(), non_neg_integer, term) :: reference
  def verify_archive(_pool, _path, _max_faults, _tag), do: not_loaded()

  @spec archive_preamble(pos_integer, non_neg_integer, non_neg_integer, boolean) :: binary
  def archive_preamble(_containers, _proof, _height, _part), do: not_loaded()

  @spec archive_sizes(binary) :: result({pos_integer, non_neg_integer, non_neg_integer, boolean})
  def archive_sizes(_preamble), do: not_loaded()

  @spec archive_disclose(binary, [pos_integer]) :: result(binary)
  def archive_disclose(_container, _positions), do: not_loaded()

  @spec log_proof(non_neg_integer, binary, String.t()) :: String.t()
  def log_proof(_index, _path, _checkpoint), do: not_loaded()

  @spec archive_signed(Path.t(), [String.t()], [String.t()], non_neg_integer) ::
          {:ok, tuple | nil} | {:error, failure | {:rule, atom}}
  def archive_signed(_path, _logs, _witnesses, _quorum), do: not_loaded()

  @spec interchange_containers(binary) :: result([binary])
  def interchange_containers(_text), do: not_loaded()

  # Kept parts of blocks

  @spec kept_cut(tuple) :: result(binary)
  def kept_cut(_place), do: not_loaded()

  @spec kept_same([{tuple, tuple}]) :: [boolean]
  def kept_same(_pairs), do: not_loaded()

  @spec kept_read(binary) :: result(tuple)
  def kept_read(_part), do: not_loaded()

  @spec kept_flaw(binary, non_neg_integer, binary | nil) :: result(tuple | nil)
  def kept_flaw(_part, _height, _before), do: not_loaded()

  @spec kept_compare(binary, binary, non_neg_integer, binary | nil) ::
          {tuple, :events | :verification | :both | :either} | nil
  def kept_compare(_events, _kept, _height, _before), do: not_loaded()

  @spec kept_mend(binary, binary) :: result(binary)
  def kept_mend(_part, _block), do: not_loaded()

  # Interchange and import

  @spec interchange_header(binary, boolean) :: result(binary)
  def interchange_header(_genesis, _closed), do: not_loaded()

  @spec interchange_lines(binary) :: result(binary)
  def interchange_lines(container) when byte_size(container) < @small, do: interchange_lines_here(container)
  def interchange_lines(container), do: interchange_lines_dirty(container)

  @spec import_lines([binary]) :: [{:ok, {String.t(), tuple}} | {:error, {atom, String.t()}}]
  def import_lines(_lines), do: not_loaded()

  # A lock on a file that the kernel drops with its holder

  @spec lock(Path.t()) :: {:ok, reference} | {:error, :locked | :io | :not_utf8}
  def lock(_path), do: not_loaded()

  @spec unlock(reference) :: :ok
  def unlock(_lock), do: not_loaded()

  @doc false
  def hash_all_here(_algorithm, _inputs), do: not_loaded()
  @doc false
  def hash_all_dirty(_algorithm, _inputs), do: not_loaded()
  @doc false
  def hash_update_here(_state, _input), do: not_loaded()
  @doc false
  def hash_update_dirty(_state, _input), do: not_loaded()
  @doc false
  def frames_here(_suite, _drafts), do: not_loaded()
  @doc false
  def frames_dirty(_suite, _drafts), do: not_loaded()
  @doc false
  def settle_here(_flows), do: not_loaded()
  @doc false
  def settle_dirty(_flows), do: not_loaded()
  @doc false
  def settle_drafts_here(_flows), do: not_loaded()
  @doc false
  def settle_drafts_dirty(_flows), do: not_loaded()
  @doc false
  def seal_here(_genesis, _placed, _before, _ids, _runs, _limits), do: not_loaded()
  @doc false
  def seal_dirty(_genesis, _placed, _before, _ids, _runs, _limits), do: not_loaded()
  @doc false
  def events_here(_container), do: not_loaded()
  @doc false
  def events_dirty(_container), do: not_loaded()
  @doc false
  def receipts_group_here(_promised), do: not_loaded()
  @doc false
  def receipts_group_dirty(_promised), do: not_loaded()
  @doc false
  def receipts_signed_here(_group, _key, _signature), do: not_loaded()
  @doc false
  def receipts_signed_dirty(_group, _key, _signature), do: not_loaded()
  @doc false
  def interchange_lines_here(_container), do: not_loaded()
  @doc false
  def interchange_lines_dirty(_container), do: not_loaded()

  defp not_loaded, do: :erlang.nif_error(:not_loaded)
end
