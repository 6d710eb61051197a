/** One scope of the distribution token spec: `repository:library/nginx:pull,push`, `repository(plugin):a/b:pull`. */
export interface Scope {
  readonly type: string;
  readonly class?: string;
  /** May hold a host with a port. */
  readonly name: string;
  readonly actions: readonly string[];
}

/** Room for a host, a repository of 255 characters and every action there is. */
const MAX_SCOPE_LENGTH = 1024;

const TYPE = /^([a-z0-9]+)(?:\(([a-z0-9]+)\))?$/;
const NAME = /^[^\s"\\]+$/;
const ACTION = /^(?:[a-z_]+|\*)$/;

/** Undefined for what is no scope. The name stands between the first and the last colon, since it may hold colons itself. */
export function parseScope(text: string): Scope | undefined {
  const first = text.indexOf(":");
  const last = text.lastIndexOf(":");
  if (text.length > MAX_SCOPE_LENGTH || first === last) {
    return undefined;
  }
  const type = TYPE.exec(text.slice(0, first));
  const name = text.slice(first + 1, last);
  const actions = text.slice(last + 1).split(",");
  if (type?.[1] === undefined || !NAME.test(name) || !actions.every((action) => ACTION.test(action))) {
    return undefined;
  }
  return { type: type[1], ...(type[2] === undefined ? {} : { class: type[2] }), name, actions };
}

export function formatScope(scope: Scope): string {
  const type = scope.class === undefined ? scope.type : `${scope.type}(${scope.class})`;
  return `${type}:${scope.name}:${scope.actions.join(",")}`;
}

export function repositoryScope(repository: string, actions: readonly string[]): Scope {
  return { type: "repository", name: repository, actions };
}
