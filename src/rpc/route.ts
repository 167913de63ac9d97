import type { DescService } from "@bufbuild/protobuf";
import type { Interceptor, ServiceImpl } from "@connectrpc/connect";

/** A service and what answers for it. */
export interface Route {
  service: DescService;
  implementation: Partial<ServiceImpl<DescService>>;
}

/** A route and what its calls pass through. */
export interface ServedRoute extends Route {
  interceptors: Interceptor[];
}

export const route = <S extends DescService>(service: S, implementation: ServiceImpl<S>): Route => ({
  service,
  implementation: implementation as Route["implementation"],
});
