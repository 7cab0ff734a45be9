defmodule EventSeal.Store.Postgres.Tables do
  @moduledoc false
  # Whether the tables are as the files in priv/postgres make them, as far as the database's own catalogue says: what refuses
  # change, who may do what, keys, generated columns, and the functions, whose text stands in these files.

  alias EventSeal.{Error, Fault}
  alias EventSeal.Store.Postgres.{Client, Migration}

  # Before UPDATE, DELETE and TRUNCATE, once for each statement, also where a session plays the part of a replica.
  @refuses [58, "A", "", "refuse"]

  @triggers """
  SELECT c.relname, t.tgname, t.tgtype, t.tgenabled::text, t.tgattr::text || coalesce(pg_get_expr(t.tgqual, t.tgrelid), ''),
    CASE WHEN p.pronamespace = c.relnamespace THEN p.proname ELSE '' END
  FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_proc AS p ON p.oid = t.tgfoid
  WHERE c.relnamespace = $1::text::regnamespace AND NOT t.tgisinternal
  """

  # Rules change what a statement does; row security hides rows.
  @others """
  SELECT c.relname, 'rule ' || r.rulename FROM pg_rewrite AS r JOIN pg_class AS c ON c.oid = r.ev_class
  WHERE c.relnamespace = $1::text::regnamespace AND c.relkind = 'r'
  UNION ALL
  SELECT relname, 'row security' FROM pg_class
  WHERE relnamespace = $1::text::regnamespace AND (relrowsecurity OR relforcerowsecurity)
  """

  # Of a table and of its columns; an owner's own rights say nothing.
  @grants """
  SELECT c.relname, coalesce(r.rolname, 'PUBLIC'), a.privilege_type
  FROM (SELECT oid, relname, relowner, relnamespace, relacl AS acl FROM pg_class WHERE relkind IN ('r', 'v')
        UNION ALL
        SELECT c.oid, c.relname, c.relowner, c.relnamespace, attacl FROM pg_attribute JOIN pg_class AS c ON c.oid = attrelid) AS c,
    aclexplode(c.acl) AS a LEFT JOIN pg_roles AS r ON r.oid = a.grantee
  WHERE c.relnamespace = $1::text::regnamespace AND a.grantee <> c.relowner AND a.privilege_type <> 'SELECT'
  UNION ALL
  SELECT nspname, coalesce(r.rolname, 'PUBLIC'), a.privilege_type
  FROM pg_namespace AS n, aclexplode(n.nspacl) AS a LEFT JOIN pg_roles AS r ON r.oid = a.grantee
  WHERE n.oid = $1::text::regnamespace AND a.grantee <> n.nspowner AND a.privilege_type <> 'USAGE'
  UNION ALL
  SELECT g.rolname, m.rolname, 'member' FROM pg_auth_members AS a JOIN pg_roles AS g ON g.oid = a.roleid
    JOIN pg_roles AS m ON m.oid = a.member JOIN pg_namespace AS n ON n.oid = $1::text::regnamespace
  WHERE g.rolname = $1 || '_sweeper' AND a.member <> n.nspowner
  """

  @columns """
  SELECT c.relname, a.attname FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
  WHERE c.relnamespace = $1::text::regnamespace AND c.relkind = 'r' AND a.attgenerated = 's'
  """

  @keys """
  SELECT c.relname, array_to_string(ARRAY(SELECT attname FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (n, nth)
    JOIN pg_attribute ON attrelid = c.oid AND attnum = k.n ORDER BY nth), ', ')
  FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid
  WHERE c.relnamespace = $1::text::regnamespace AND i.indisunique AND i.indisvalid AND i.indisready AND i.indpred IS NULL
  """

  @functions """
  SELECT p.proname, p.prosrc, CASE WHEN p.prosecdef THEN o.rolname END
  FROM pg_proc AS p JOIN pg_roles AS o ON o.oid = p.proowner WHERE p.pronamespace = $1::text::regnamespace
  """

  @inserted ~w(flow event block journal spent leaf checkpoint lease mark)
  @unique [{"flow", "id"}, {"block", "flow, first"}]

  @doc "What of them is otherwise; each fault's row is the table and what it is."
  @spec faults(Client.t()) :: {:ok, [Fault.t()]} | {:error, Error.t()}
  def faults(%{schema: schema} = client) do
    statements = for sql <- [@triggers, @others, @grants, @columns, @keys, @functions], do: {sql, [text: schema]}

    with {:ok, [triggers, others, grants, columns, keys, functions]} <- Client.read(client, statements) do
      text = for {_version, text} <- Migration.sql(schema), into: "", do: text
      made = made(text)

      found =
        triggers(triggers, made) ++
          for([table, what] <- others, do: {table, what <> " is not ours"}) ++
          grants(grants, schema) ++
          for(at <- made.generated -- Enum.map(columns, &List.to_tuple/1), do: lacks(at, "column", "is not generated")) ++
          for(key <- made.keys -- Enum.map(keys, &List.to_tuple/1), do: lacks(key, "key", "is not there")) ++
          functions(functions, made, text, schema)

      {:ok, for({where, what} <- found, do: fault(schema, where, what))}
    end
  end

  defp lacks({table, name}, kind, how), do: {table, "#{kind} (#{name}) #{how}"}

  # What the files make.
  defp made(text) do
    tables = Regex.scan(~r/^CREATE TABLE (\w+) \((.*?)^\);/ms, text, capture: :all_but_first)

    %{
      tables: for([table, _columns] <- tables, do: table),
      generated:
        for([table, columns] <- tables, [name] <- scan(~r/^  (\w+) .*GENERATED ALWAYS/m, columns), do: {table, name}),
      keys: @unique ++ for([table, columns] <- tables, do: {table, key(columns)}),
      functions: for([name] <- scan(~r/^CREATE FUNCTION (\w+)/m, text), do: name)
    }
  end

  defp scan(regex, text), do: Regex.scan(regex, text, capture: :all_but_first)

  defp key(columns) do
    case scan(~r/PRIMARY KEY \(([^)]*)\)/, columns) ++ scan(~r/^  (\w+) .*PRIMARY KEY/m, columns) do
      [[key] | _] -> key
    end
  end

  defp triggers(found, made) do
    refused = for [table, "refuse" | rest] <- found, into: %{}, do: {table, rest}

    missing =
      for table <- made.tables, refused[table] != @refuses do
        case refused do
          %{^table => [_type, "D" | _]} -> {table, "trigger refuse is disabled"}
          %{^table => _other} -> {table, "trigger refuse is changed"}
          _none -> {table, "trigger refuse is not there"}
        end
      end

    missing ++ for([table, name | _] <- found, name != "refuse", do: {table, "trigger #{name} is not ours"})
  end

  defp grants(found, schema) do
    for [where, role, privilege] <- found, not granted?(where, role, privilege, schema) do
      if privilege == "member",
        do: {where, "is granted to #{role}"},
        else: {where, "#{privilege} is granted to #{role}"}
    end
  end

  defp granted?(table, role, "INSERT", schema), do: role == schema <> "_writer" and table in @inserted
  defp granted?(table, role, "DELETE", schema), do: role == schema <> "_sweeper" and table in ["journal", "mark"]
  defp granted?(_table, _role, _privilege, _schema), do: false

  # An SQL function in the standard's form has no text of its own.
  defp functions(found, made, text, schema) do
    names = Enum.map(found, &hd/1)
    gone = for name <- made.functions, name not in names, do: {"#{name}()", "is not there"}
    changed = for [name, source, _as] <- found, not String.contains?(text, source), do: {"#{name}()", "is changed"}

    lent =
      for [name, _source, as] <- found,
          as != if(name == "sweep", do: schema <> "_sweeper"),
          do: {"#{name}()", "runs as another"}

    gone ++ changed ++ lent
  end

  defp fault(schema, where, what) do
    where = if String.starts_with?(where, schema), do: where, else: "#{schema}.#{where}"
    %Fault{flow: "tables", position: 0, class: :tables, row: "#{where}: #{what}"}
  end
end
