// Failures of requests, in words: what happened, and what to do.

export interface ErrorBody {
  type: string;
  code: string;
  detail: string;
  attr: string | null;
}

/** A response that is not a success. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly detail: string,
    readonly attr: string | null,
    /** Seconds after which a retry can succeed. */
    readonly retryAfter: number | undefined,
  ) {
    super(detail);
  }

  /** The scope that the key lacks. */
  get scope(): string | undefined {
    return this.status === 403 ? /scope '([^']+)'/.exec(this.detail)?.[1] : undefined;
  }
}

/** No response: the connection failed. */
export class ConnectionError extends Error {}

export const isAbort = (error: unknown) => error instanceof DOMException && error.name === 'AbortError';

export async function errorOf(response: Response): Promise<ApiError> {
  const seconds = Number(response.headers.get('retry-after') ?? Number.NaN);
  const retryAfter = Number.isFinite(seconds) ? seconds : undefined;
  const body: Partial<ErrorBody> = await response.json().catch(() => ({}));
  const { code = 'error', detail = `The service answered with the status ${response.status}.`, attr = null } = body;
  return new ApiError(response.status, code, detail, attr, retryAfter);
}

export interface Explanation {
  title: string;
  detail: string;
}

/** An error for a reader. */
export function explain(error: unknown): Explanation {
  if (error instanceof ConnectionError) {
    return { title: 'No connection to the service', detail: 'The page tries again as soon as the connection is back.' };
  }
  if (!(error instanceof ApiError)) {
    const detail = error instanceof Error ? error.message : String(error);
    return { title: 'The page failed', detail: `${detail} Reload the page; what you entered is kept.` };
  }
  const { status, scope, detail, retryAfter } = error;
  if (status === 401) return { title: 'The key is not valid', detail: 'It may have expired or been revoked. Sign in with another key.' };
  if (scope) {
    return {
      title: `The key lacks the scope ${scope}`,
      detail: `Ask the operator for a key with it: cohorts key create --scope ${scope}`,
    };
  }
  if (status === 403) return { title: 'The key may not do this', detail };
  if (status === 404) return { title: 'Not found', detail: 'It was deleted for good, or belongs to another project.' };
  if (status === 413) return { title: 'Too large', detail };
  if (status === 429) return { title: 'Too many requests', detail: wait(retryAfter, detail) };
  if (status === 503) return { title: 'The service is busy', detail: wait(retryAfter, detail) };
  if (status === 507) return { title: 'The service has no storage space left', detail: 'Nothing was changed. Tell the operator.' };
  if (status >= 500) return { title: 'The service failed', detail: `${detail} Try again; tell the operator if it happens again.` };
  return { title: 'The service refused this', detail };
}

function wait(seconds: number | undefined, detail: string): string {
  return seconds === undefined ? detail : `${detail} Try again in ${seconds === 1 ? 'a second' : `${seconds} seconds`}.`;
}
